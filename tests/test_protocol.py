"""The protocols: which parts are trained on, select the epoch and are tested."""

import json
from pathlib import Path

import pytest
import torch
from conftest import QUIET
from recbole.utils import init_seed

import recbole_hns
from recbole_hns import load_data_and_model, run
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.protocol import PAPER_NOTE, WHOLE_NOTE

PARTS = {
    "train": [(u, i % 20) for u in range(9) for i in range(u, u + 5)],
    "valid": [(u, (u + 5) % 20) for u in range(9)],
    "test": [(u, (u + 7) % 20) for u in range(9)] + [(u, (u + 9) % 20) for u in range(5)],
}


@pytest.fixture
def write_split(tmp_path):
    """Write a ready split of some of the parts; returns the config keys."""

    def write(*parts):
        folder = tmp_path / "dataset" / "split"
        folder.mkdir(parents=True)
        for part in parts:
            lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in PARTS[part])]
            (folder / f"split.{part}.inter").write_text("\n".join(lines) + "\n")
        return {**QUIET, "dataset": "split", "epochs": 3, "topk": 5, "valid_metric": "MRR@5"}

    return write


def loaders(keys):
    config = Config(config_dict=keys)
    # a split by ratio is drawn
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))


def pairs(loader):
    """The interactions of a loader's data set, by their ids."""
    dataset = loader._dataset
    feat = dataset.inter_feat
    user = dataset.id2token("user_id", feat["user_id"].numpy())
    item = dataset.id2token("item_id", feat["item_id"].numpy())
    return sorted(zip(user.tolist(), item.tolist()))


def named(*parts):
    return sorted((f"u{u}", f"i{i}") for part in parts for u, i in PARTS[part])


def test_valid_has_the_three_parts(write_split):
    train, valid, test = loaders(write_split("train", "valid", "test"))
    assert (pairs(train), pairs(valid), pairs(test)) == tuple(map(named, PARTS))


@pytest.mark.parametrize("given", [None, ["train", "valid", "test"]])
def test_paper_trains_on_all_but_the_test_part(given, write_split):
    keys = {**write_split("train", "valid", "test"), "protocol": "paper"}
    train, valid, test = loaders({**keys, "benchmark_filename": given})
    assert pairs(train) == named("train", "valid")
    assert pairs(valid) == pairs(test) == named("test")
    # what is used and popular in training is that of the training part alone
    used = train._sampler.used_ids
    assert sum(map(len, used)) == len(set(named("train", "valid")))
    popularity = train._sampler._popularity["train"]
    assert popularity.sum() == len(named("train", "valid"))
    assert test._sampler._popularity["test"].sum() == len(named(*PARTS))


@pytest.mark.parametrize("given", [None, ["train", "test"], ["train", "test", "test"]])
def test_paper_needs_no_validation_part(given, write_split):
    keys = {**write_split("train", "test"), "protocol": "paper", "benchmark_filename": given}
    train, valid, test = loaders(keys)
    assert pairs(train) == named("train")
    assert pairs(valid) == pairs(test) == named("test")


def test_valid_without_a_validation_part_is_a_mistake(write_split):
    with pytest.raises(
        UserError, match=r"\['train', 'test'\]: protocol=valid needs .*protocol=paper"
    ):
        Config(config_dict=write_split("train", "test"))


def test_a_whole_data_set_goes_before_parts_of_it(write_split, tmp_path):
    keys = write_split("train", "test")
    source = tmp_path / "dataset" / "split"
    (source / "split.inter").write_text((source / "split.train.inter").read_text())
    assert Config(config_dict=keys)["benchmark_filename"] is None


def test_paper_with_a_split_by_ratio(toy):
    keys = {**QUIET, **toy, "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}
    train, valid, test = loaders(keys)
    everything, selecting, tested = loaders({**keys, "protocol": "paper"})
    assert pairs(everything) == sorted(pairs(train) + pairs(valid))
    assert pairs(selecting) == pairs(tested) == pairs(test)


@pytest.mark.parametrize("mode", ["full", "uni5", "pop5", {"valid": "uni5", "test": "full"}])
def test_paper_selects_by_what_it_tests(mode, write_split, capsys):
    keys = {**write_split("train", "valid", "test"), "protocol": "paper", "state": "INFO"}
    result = run(config_dict={**keys, "eval_args": {"mode": mode}})
    (path,) = Path("saved").glob("*.json")
    content = json.loads(path.read_text())
    assert (content["protocol"], content["note"]) == ("paper", PAPER_NOTE)
    if mode == "full" or isinstance(mode, dict):  # nothing is drawn for it
        assert result["best_valid_result"] == result["test_result"] == content["test_result"]
    shown = capsys.readouterr().err
    assert shown.count(PAPER_NOTE) == 2
    assert "metric         test\n" in shown
    (log,) = Path("log/BPR").glob("*.log")
    assert log.read_text().count(PAPER_NOTE) == 2


def test_paper_without_evaluation_selects_nothing(write_split, capsys):
    keys = {**write_split("train", "valid", "test"), "protocol": "paper", "state": "INFO"}
    result = run(config_dict={**keys, "eval_step": 0})
    (path,) = Path("saved").glob("*.json")
    content = json.loads(path.read_text())
    assert (content["note"], result["best_valid_result"]) == (WHOLE_NOTE, None)
    shown = capsys.readouterr().err
    assert shown.count(WHOLE_NOTE) == 2
    assert PAPER_NOTE not in shown


def test_valid_says_nothing_of_it(write_split, capsys):
    run(config_dict={**write_split("train", "valid", "test"), "state": "INFO"})
    (path,) = Path("saved").glob("*.json")
    content = json.loads(path.read_text())
    assert content["protocol"] == "valid"
    assert "note" not in content
    assert PAPER_NOTE not in capsys.readouterr().err


def test_a_checkpoint_keeps_its_protocol(write_split):
    run(config_dict={**write_split("train", "valid", "test"), "protocol": "paper"})
    (path,) = Path("saved").glob("*.pth")
    *_, train, valid, test = load_data_and_model(path)
    assert pairs(train) == named("train", "valid")
    assert pairs(valid) == pairs(test)
    with pytest.raises(UserError, match="protocol=valid: the run was started with paper"):
        run(resume=path, config_dict={"protocol": "valid"})


def test_saved_data_loaders_are_not_those_of_another_protocol(write_split):
    keys = {**write_split("train", "valid", "test"), "save_dataloaders": True}
    Path("saved").mkdir()
    for protocol, expected in (("valid", ["train"]), ("paper", ["train", "valid"])) * 2:
        for _ in range(2):
            train, valid, test = loaders({**keys, "protocol": protocol})
            assert pairs(train) == named(*expected)
            assert len(list(valid)) == len(list(test)) > 0


@pytest.mark.parametrize("protocol", ["valid", "paper"])
def test_the_benchmark_splits_recboles_training_alike(protocol, write_split, monkeypatch):
    from recbole_hns.benchmark.entries import entries
    from recbole_hns.benchmark.training import Training

    keys = {**write_split("train", "valid", "test"), "protocol": protocol}
    found = entries({**keys, "checkpoint_dir": "saved"}, "rns", "uniform")
    dataset = create_dataset(found[0].config)
    ours, theirs = (Training(entry, dataset) for entry in found)
    assert pairs(ours.train_data) == pairs(theirs.train_data)
    assert pairs(ours.valid_data) == pairs(theirs.valid_data)


def learning_rates(monkeypatch, keys):
    """The learning rate of every epoch, as the optimiser has it."""
    found, train_epoch = [], recbole_hns.trainer.HardNegativeTrainer._train_epoch

    def watched(self, *args, **kwargs):
        loss = train_epoch(self, *args, **kwargs)
        found.append(self.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(recbole_hns.trainer.HardNegativeTrainer, "_train_epoch", watched)
    run(config_dict=keys)
    return found


def test_the_learning_rate_decays_in_steps(toy, monkeypatch):
    keys = {**QUIET, **toy, "epochs": 5, "learning_rate": 0.01}
    found = learning_rates(monkeypatch, {**keys, "lr_decay": 0.5, "lr_decay_step": 2})
    assert found == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])
    monkeypatch.undo()


def test_the_learning_rate_stays_unless_told_otherwise(toy, monkeypatch):
    assert set(learning_rates(monkeypatch, {**QUIET, **toy, "epochs": 6})) == {0.001}


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_embeddings_start_as_told(model, toy):
    config = Config(model, config_dict={**QUIET, **toy, "embedding_std": 0.3})
    dataset = create_dataset(config)
    network = recbole_hns.quick_start.build_model(config, dataset)
    for table in (network.user_embedding.weight, network.item_embedding.weight):
        assert table.std().item() == pytest.approx(0.3, rel=0.1)
        assert abs(table.mean().item()) < 0.05
    assert torch.isfinite(network.item_embedding.weight).all()
