"""The experiment with ALS and EASE: literal metrics, what is trained on, selection, mistakes."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import alternatives
import numpy as np
import pytest
import selection
import torch
from conftest import QUIET
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.tuning import baselines
from recbole_hns.tuning.als import ALS

USERS, ITEMS = 25, 60
PARTS = ("train", "valid", "test")


@pytest.fixture
def split():
    """Write a ready split; returns the (user, item) tokens of each part."""
    rng = np.random.default_rng(3)
    folder = Path("dataset/split")
    folder.mkdir(parents=True)
    pairs = {part: [] for part in PARTS}
    for user in range(USERS):
        items = rng.choice(ITEMS, rng.integers(6, 30), replace=False)
        for part, own in zip(PARTS, np.split(items, [-4, -2])):
            pairs[part] += [(f"u{user}", f"i{item}") for item in own]
    for part, listed in pairs.items():
        lines = ["user_id:token\titem_id:token", *map("\t".join, listed)]
        (folder / f"split.{part}.inter").write_text("\n".join(lines) + "\n")
    return pairs


class Given(GeneralRecommender):
    """Has random scores, others for each ``reg_weight``."""

    made = None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        generator = torch.Generator().manual_seed(int(config["reg_weight"]))
        self.scores = torch.randn(dataset.user_num, dataset.item_num, generator=generator)
        self.dataset = dataset
        self.made.append(self)

    def full_sort_predict(self, interaction):
        return self.scores[interaction[self.USER_ID]]


@pytest.fixture
def given(monkeypatch):
    """EASE replaced by known scores; returns the models made."""
    monkeypatch.setattr(Given, "made", [])
    monkeypatch.setattr(selection, "EASE", Given)
    return Given.made


def run(*arguments):
    """The result file of a run that succeeds."""
    assert alternatives.main(["--dataset=split", *arguments]) == 0
    (path,) = Path("alternatives").glob("*.json")
    return json.loads(path.read_text())


def literal(model, positives, masked, k):
    """Recall@k and NDCG@k by their definitions, mean over the users of ``positives``."""
    recalls, ndcgs = [], []
    dataset = model.dataset
    items = dataset.id2token("item_id", np.arange(dataset.item_num))
    for user in sorted({user for user, _ in positives}):
        relevant = {item for owner, item in positives if owner == user}
        left_out = {item for owner, item in masked if owner == user} | {"[PAD]"}
        score = dict(zip(items, model.scores[dataset.token2id("user_id", user)].tolist()))
        ranked = sorted(score.keys() - left_out, key=score.get, reverse=True)[:k]
        gains = [1 / math.log2(place + 2) for place in range(k)]
        hits = [item in relevant for item in ranked]
        recalls.append(sum(hits) / len(relevant))
        ndcgs.append(
            sum(gain for gain, hit in zip(gains, hits) if hit) / sum(gains[: len(relevant)])
        )
    return {f"recall@{k}": np.mean(recalls), f"ndcg@{k}": np.mean(ndcgs)}


@pytest.mark.parametrize(
    ("protocol", "trained", "selecting", "masked"),
    [
        ("valid", ["train"], "valid", ["train", "valid"]),
        ("paper", ["train", "valid"], "test", ["train", "valid"]),
    ],
)
def test_metrics_are_the_literal_ones(protocol, trained, selecting, masked, split, given):
    report = run("--model=ease", "--reg_weight=1", f"--protocol={protocol}")
    (model,) = given
    feat = model.dataset.inter_feat
    seen = {
        (model.dataset.id2token("user_id", user), model.dataset.id2token("item_id", item))
        for user, item in zip(feat["user_id"].tolist(), feat["item_id"].tolist())
    }
    training = [pair for part in trained for pair in split[part]]
    assert seen == set(training)
    for k in (20, 50):
        expected = literal(model, split[selecting], training, k)
        assert {key: report["valid"][key] for key in expected} == pytest.approx(expected, abs=1e-6)
        expected = literal(model, split["test"], split["train"] + split["valid"], k)
        assert {key: report["test"][key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert ("note" in report) == (protocol == "paper")


def test_the_best_on_validation_data_is_tested(split, given):
    report = run("--model=ease", "--reg_weight=1,2,3,4,5")
    scores = [literal(model, split["valid"], split["train"], 20)["ndcg@20"] for model in given]
    best = int(np.argmax(scores))
    assert report["chosen"] == {"reg_weight": best + 1}
    assert [fit["valid"]["ndcg@20"] for fit in report["fits"]] == pytest.approx(scores, abs=1e-6)
    expected = literal(given[best], split["test"], split["train"] + split["valid"], 20)
    assert report["test"]["ndcg@20"] == pytest.approx(expected["ndcg@20"], abs=1e-6)


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        ("als", ["--factors=8", "--alpha=1,10", "--regularization=1", "--iterations=3"]),
        ("ease", ["--reg_weight=10,100"]),
    ],
)
def test_both_models_run(model, grid, split, capsys):
    report = run(f"--model={model}", *grid)
    assert len(report["fits"]) == 2
    assert all(0 < value <= 1 for part in ("valid", "test") for value in report[part].values())
    assert report["seconds"] > 0
    assert report["process_mib"] > report["increase_mib"] >= 0
    header, _, row = capsys.readouterr().out.split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, row)]
    shown = dict(zip(*cells))
    assert (shown["data"], shown["model"]) == ("split", model)
    assert shown["test NDCG@50"] == f"{report['test']['ndcg@50']:.4f}"


@pytest.mark.parametrize(("protocol", "named"), [("valid", 1), ("paper", 0)])
def test_no_column_is_named_valid_that_is_the_test_part(protocol, named, split, given, capsys):
    report = run("--model=ease", f"--protocol={protocol}")
    printed = capsys.readouterr().out
    assert printed.count("valid NDCG@20") == named
    assert printed.count("selected on the test part") == 1 - named
    assert f"{report['test']['ndcg@20']:.4f}" in printed


def test_als_solves_its_least_squares(split):
    config = Config("BPR", "split", "rns", config_dict={**QUIET, "data_path": "dataset"})
    dataset = data_preparation(config, create_dataset(config))[0]._dataset
    known = {"factors": 4, "alpha": 5.0, "regularization": 2.0, "iterations": 100}
    for key, value in known.items():
        config[key] = value
    model = ALS(config, dataset)
    seen = torch.from_numpy(dataset.inter_matrix(form="csr").toarray()).float()
    user = torch.arange(dataset.user_num)
    torch.testing.assert_close(
        model.full_sort_predict(Interaction({"user_id": user})), model.user @ model.item.T
    )
    for item in range(1, dataset.item_num):
        confidence = 1 + (known["alpha"] - 1) * seen[:, item]
        weighted = (model.user * confidence[:, None]).T
        expected = torch.linalg.solve(
            weighted @ model.user + known["regularization"] * torch.eye(4),
            weighted @ seen[:, item],
        )
        torch.testing.assert_close(model.item[item], expected, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha=0"], "alpha=0: must be a number > 0"),
        (["--factors=8,x"], "factors=8,x: must be an integer > 0"),
        (["--model=svd"], "model=svd: must be als or ease"),
        (["--model=ease", "--alpha=1"], "alpha=1.0: no option of model=ease"),
        (["--reg_weigth=1"], "reg_weigth=1: no such option; did you mean --reg_weight?"),
        (["--dataset=absent"], "dataset=absent: "),
        (["--output=dataset/split/split.train.inter"], "output=dataset/split/split.train.inter: "),
    ],
)
def test_mistakes(arguments, message, split, capsys):
    dataset = [] if "dataset=" in message else ["--dataset=split"]
    assert alternatives.main([*dataset, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"alternatives: error: {message}")
    assert err.count("\n") == 1
    assert not list(Path("alternatives").glob("*"))


def test_ease_that_does_not_fit_is_not_tried(split, given, monkeypatch, capsys):
    free = baselines.EASE_BYTES * (ITEMS + 1) ** 2 - 1
    monkeypatch.setattr(baselines.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    assert alternatives.main(["--dataset=split", "--model=ease"]) == 2
    assert "dataset=split: EASE inverts a dense matrix of 61 x 61" in capsys.readouterr().err
    assert not given


def test_als_needs_implicit(split, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "recbole_hns.tuning.als")
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    assert alternatives.main(["--dataset=split"]) == 2
    assert "model=als: needs implicit: pip install" in capsys.readouterr().err
