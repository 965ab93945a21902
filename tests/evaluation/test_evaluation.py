"""Evaluation: the collector against RecBole's own, OPAUC in every kind of run."""

import json
from pathlib import Path

import numpy as np
import pytest
import recbole.data.utils as recbole_data
import torch
from conftest import QUIET, prepared
from literal_opauc import literal_of_matrix
from recbole.config import Config as RecBoleConfig
from recbole.data.dataloader import FullSortEvalDataLoader as RecBoleFullSortEvalDataLoader
from recbole.evaluator import Collector as RecBoleCollector
from recbole.evaluator import Evaluator
from recbole.trainer import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import recbole_hns
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation, loader
from recbole_hns.evaluation import Collector
from recbole_hns.evaluation.opauc import Ranks

TOP_K = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC"]
EXACT = {"metric_decimal_place": 12}
SMALL = {"sampler": "rns", "embedding_size": 8, "epochs": 1, **QUIET}


def eval_args(mode):
    return {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": mode}}


def loaders(keys):
    """Config and the three loaders of this package."""
    config = Config(config_dict={**SMALL, **keys})
    return config, *data_preparation(config, create_dataset(config))


def recbole_run(monkeypatch, keys, model="BPR"):
    """RecBole's own loaders and trainer, as without a sampler."""
    monkeypatch.setattr("sys.argv", ["x"])
    config = RecBoleConfig(model, config_dict={**SMALL, **keys, "data_path": "dataset"})
    torch.manual_seed(0)
    train, valid, test = recbole_data.data_preparation(config, create_dataset(config))
    return train, valid, test, Trainer(config, config.model_class(config, train._dataset))


def full_scores(model, data):
    """Scores of every test user, positives, as RecBole's trainer has them, for a literal metric."""
    for interaction, history, *positives in data:
        scores = model.full_sort_predict(interaction).detach().view(len(interaction), -1)
        scores[:, 0] = scores[history] = -torch.inf
        positive = torch.zeros_like(scores, dtype=torch.bool)
        positive[tuple(positives)] = True
        yield scores, positive


# --- collector ------------------------------------------------------------------------------------


def collected(gathers, batches):
    for scores, positive in batches:
        gathers.eval_batch_collect(scores.clone(), None, *positive.nonzero(as_tuple=True))
    return gathers.get_data_struct()


def random_batches(users, items=50, batches=4):
    generator = torch.Generator().manual_seed(5)
    for _ in range(batches):
        scores = torch.randint(0, 40, (users, items), generator=generator).float()
        scores[:, 0] = scores[torch.rand(users, items, generator=generator) < 0.1] = -torch.inf
        positive = torch.rand(users, items, generator=generator) < 0.1
        positive[:, 7] = True
        yield scores, positive


def test_recboles_metrics_are_unchanged_to_the_last_digit():
    keys = {"metrics": TOP_K, "topk": [1, 5, 20], "valid_metric": "MRR@5"}
    config = Config(config_dict={**keys, "metric_decimal_place": 17})
    mine = collected(Collector(config), random_batches(30))
    theirs = collected(RecBoleCollector(config), random_batches(30))
    for name in ("rec.topk", "rec.meanrank"):
        assert mine.get(name).equal(theirs.get(name))
        assert mine.get(name).dtype == theirs.get(name).dtype
    assert Evaluator(config).evaluate(mine) == Evaluator(config).evaluate(theirs)


def test_an_evaluation_starts_without_the_last_and_keeps_what_training_set():
    config = Config(config_dict={"metrics": ["NormOPAUC", "NDCG"], "valid_metric": "NDCG@10"})
    collector = Collector(config)
    collector.data_struct.set("data.num_items", 50)
    first, second = (collected(collector, random_batches(8)) for _ in range(2))
    for name in ("rec.opauc", "rec.topk"):
        assert first.get(name).equal(second.get(name))
        assert len(first.get(name)) == 32
    assert second.get("data.num_items") == 50
    assert "rec.score" not in first


def test_nothing_is_collected_that_no_metric_needs():
    config = Config(config_dict={"metrics": ["NDCG"], "valid_metric": "NDCG@10"})
    assert set(collected(Collector(config), random_batches(3))._data_dict) == {"rec.topk"}


def test_metrics_of_the_catalogue(toy):
    # RecBole 1.2.1 itself fails here: it sends the number of items to the CPU
    keys = {**toy, "metrics": ["ItemCoverage", "GiniIndex", "Recall"], "topk": [40]}
    _, train, valid, trainer = prepared(**SMALL, **keys, valid_metric="ItemCoverage@40")
    result = trainer.fit(train, valid, saved=False)[1]
    assert result["itemcoverage@40"] == 1.0


# --- runs -----------------------------------------------------------------------------------------


def test_full_ranking_gives_what_the_definition_gives(toy):
    keys = {**SMALL, **EXACT, **toy, "metrics": ["OPAUC", "NormOPAUC"], "eval_batch_size": 300}
    _, train, valid, trainer = prepared(**keys, valid_metric="OPAUC@0.1")
    trainer.fit(train, valid, saved=False)
    result = trainer.evaluate(valid, load_best_model=False)
    batches = list(full_scores(trainer.model, valid))
    betas = [0.01, 0.1, 1.0]
    expected = np.concatenate([literal_of_matrix(s, p, betas) for s, p in batches]).mean(axis=0)
    for beta, value in zip(betas, expected):
        assert result[f"normopauc@{beta}"] == pytest.approx(value, abs=1e-9)
        assert result[f"opauc@{beta}"] == pytest.approx(beta * value, abs=1e-9)


def test_recboles_metrics_are_the_same_through_our_loader_and_recboles(toy):
    keys = {**SMALL, **EXACT, **toy, "metrics": TOP_K, "valid_metric": "GAUC"}
    config, _, valid, trainer = prepared(**keys, eval_batch_size=200)
    theirs = RecBoleFullSortEvalDataLoader(config, valid._dataset, valid._sampler)
    result = trainer.evaluate(valid, load_best_model=False)
    trainer.eval_collector = RecBoleCollector(config)
    assert result == trainer.evaluate(theirs, load_best_model=False)


@pytest.mark.parametrize("model", ["BPR", "Pop", "NeuMF"])
def test_recboles_own_trainer(model, toy, monkeypatch):
    keys = {**toy, **EXACT, "metrics": ["NormOPAUC", "NDCG"], "valid_metric": "NormOPAUC@0.5"}
    keys["opauc_betas"] = [0.5, 1.0]
    if model == "Pop":
        keys["train_neg_sample_args"] = None
    train, valid, test, trainer = recbole_run(monkeypatch, keys, model)
    score, best = trainer.fit(train, valid, saved=True)
    assert score == best["normopauc@0.5"]
    assert 0 < best["normopauc@0.5"] < 1
    result = trainer.evaluate(test)
    assert list(result) == ["normopauc@0.5", "normopauc@1.0", "ndcg@10"]
    if model == "BPR":
        (batch,) = full_scores(trainer.model, test)
        expected = literal_of_matrix(*batch, [0.5, 1.0]).mean(axis=0)
        assert list(result.values())[:2] == pytest.approx(list(expected), abs=1e-9)


@pytest.mark.parametrize("mode", ["uni100", "pop100"])
def test_sampled_evaluation(mode, toy, monkeypatch):
    keys = {**SMALL, **EXACT, **toy, **eval_args(mode)}
    keys |= {"metrics": ["NormOPAUC", "Recall"], "valid_metric": "NormOPAUC@0.1"}
    seen = []

    def collect(self, scores, interaction, *positives):
        positive = torch.zeros_like(scores, dtype=torch.bool)
        positive[positives] = True
        seen.append(literal_of_matrix(scores, positive, self.betas))
        # the sampled pairs, and no others, have scores
        pairs = {*zip(interaction["user_id"].tolist(), interaction["item_id"].tolist())}
        assert (scores > -torch.inf).sum() == len(pairs)
        evaluate(self, scores, interaction, *positives)

    evaluate = Collector.eval_batch_collect
    monkeypatch.setattr(Collector, "eval_batch_collect", collect)
    monkeypatch.setattr(loader, "MATRIX_BUDGET", 41 * 8)
    result = recbole_hns.run(config_dict=keys, saved=False)
    assert len(seen) == 8
    for part, name in ((seen[:4], "best_valid_result"), (seen[4:], "test_result")):
        expected = np.nanmean(np.concatenate(part), axis=0)
        values = [result[name][f"normopauc@{beta}"] for beta in (0.01, 0.1, 1.0)]
        assert values == pytest.approx(list(expected), abs=1e-9)
        assert 0 <= result[name]["recall@10"] <= 1


def test_valid_metric_from_the_config_to_the_files(toy):
    keys = {
        **SMALL,
        **EXACT,
        **toy,
        "metrics": ["Recall", "NormOPAUC"],
        "epochs": 2,
        "learning_rate": 0.01,
        "eval_batch_size": 99,
    }
    result = recbole_hns.run(
        config_dict=keys, command_line={"valid_metric": "NormOPAUC@0.1", "sampler": "dns"}
    )
    assert result["best_valid_score"] == result["best_valid_result"]["normopauc@0.1"]
    assert result["valid_score_bigger"]
    (path,) = Path("saved").glob("*.json")
    record = json.loads(path.read_text())
    scores = [epoch["normopauc@0.1"] for epoch in record["epochs"]]
    assert max(scores) == result["best_valid_score"]
    assert record["best_epoch"] == scores.index(max(scores)) + 1
    assert record["config"]["opauc_betas"] == [0.01, 0.1, 1.0]
    assert set(record["test_result"]) > {"normopauc@0.01", "normopauc@0.1", "normopauc@1.0"}
    (folder,) = Path("saved/log_tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    # RecBole's spelling
    assert [e.value for e in events.Scalars("Vaild_score")] == pytest.approx(scores)


def test_early_stopping_follows_the_metric(toy, monkeypatch):
    falling = iter([0.5, 0.6, 0.4, 0.3, 0.2, 0.1, 0.0])
    monkeypatch.setattr(Ranks, "norm_opauc", lambda *_: torch.full((1, 1), next(falling)))
    keys = {**SMALL, **toy, "metrics": "OPAUC", "valid_metric": "OPAUC@1", "opauc_betas": 1}
    recbole_hns.run(config_dict={**keys, "epochs": 9, "stopping_step": 2})
    (path,) = Path("saved").glob("*.json")
    record = json.loads(path.read_text())
    assert [epoch["opauc@1.0"] for epoch in record["epochs"]] == [0.5, 0.6, 0.4, 0.3, 0.2]
    assert (record["best_epoch"], record["test_result"]) == (2, {"opauc@1.0": 0.1})


def test_a_model_without_full_sort_predict_predicts_in_small_chunks(toy, monkeypatch):
    monkeypatch.setattr("recbole_hns.training.trainer.PREDICT_PAIRS", 500)
    keys = {**SMALL, **toy, "model": "ConvNCF", "metrics": "NormOPAUC"}
    keys |= {"cnn_channels": [1, 4, 4], "cnn_kernels": [2, 4], "cnn_strides": [2, 4]}
    _, _, valid, trainer = prepared(**keys, valid_metric="NormOPAUC@1")
    sizes, predict = [], trainer.model.predict
    monkeypatch.setattr(trainer.model, "predict", lambda x: sizes.append(len(x)) or predict(x))
    assert 0 < trainer.evaluate(valid, load_best_model=False)["normopauc@1.0"] < 1
    assert (max(sizes), sum(sizes)) == (500, len(valid.uid_list) * 41)
