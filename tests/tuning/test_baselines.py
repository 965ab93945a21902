"""Baselines of a comparison: what they count, what is chosen, and what is refused."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUIET
from ready_split import PARTS
from recbole.model.general_recommender import EASE
from recbole.trainer import TraditionalTrainer

from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.data.preparation import create_dataset, data_loaders, split_dataset
from recbole_hns.errors import UserError
from recbole_hns.results import read_run
from recbole_hns.tuning import baselines
from recbole_hns.tuning.baselines import BASELINES, Baseline, baseline_names, fit_and_test

KEYS = {"metrics": ["Recall", "NDCG"], "topk": [3, 5], "valid_metric": "NDCG@5"}


def config_of(keys, **more):
    given = {**keys, **QUIET, **KEYS, "user_metrics": True, "metric_decimal_place": 9, **more}
    return Config(sampler="rns", config_dict=given)


def fitted(name, keys, **more):
    """The result of a baseline, and the split it was fitted to."""
    config = config_of(keys, **more)
    split = split_dataset(config, create_dataset(config))
    path = Path(f"{name}-1.json")
    fit_and_test(name, config, split, path)
    return read_run(path), split


def test_pop_counts_every_interaction(write_split, monkeypatch):
    made = []
    monkeypatch.setattr(baselines, "TraditionalTrainer", keeping(made))
    _, split = fitted("Pop", write_split(*PARTS))
    count = Counter(split.train.inter_feat["item_id"].tolist())
    expected = [count[item] for item in range(split.train.item_num)]
    assert made[0].model.item_cnt[:, 0].tolist() == expected
    assert made[0].model.max_cnt.item() == max(expected)
    users = torch.tensor([1, 2])
    found = made[0].model.full_sort_predict({"user_id": users}).view(2, -1)
    assert found[1].tolist() == pytest.approx((np.array(expected) / max(expected)).tolist())


def keeping(made):
    class Kept(TraditionalTrainer):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    return Kept


@pytest.mark.parametrize("name", BASELINES)
def test_the_setting_that_is_best_in_validation_is_tested(name, write_split):
    run, _ = fitted(name, write_split(*PARTS), topk=[1, 2], valid_metric="NDCG@2", seed=5)
    settings = BASELINES[name].settings()
    assert [{key: one[key] for key in settings[0]} for one in run.tried] == settings
    best = max(run.tried, key=lambda one: one["score"])
    assert run.best_valid_score == best["score"] == run.best_valid_result["ndcg@2"]
    assert {key: run.config[key] for key in settings[0]} == {key: best[key] for key in settings[0]}
    assert (run.model, run.sampler, run.loss, run.best_epoch) == (name, name, None, 1)
    # what was trained by is no part of it
    assert not {"learning_rate", "dns_m", "embedding_size"} & run.config.keys()
    users = pd.read_parquet(f"{name}-1.users.parquet")
    for key in ("recall@1", "recall@2", "ndcg@1", "ndcg@2"):
        assert users[key].mean() == pytest.approx(run.test_result[key], abs=1e-9)


def test_ease_is_recboles(write_split, monkeypatch):
    monkeypatch.setitem(BASELINES, "EASE", Baseline({"reg_weight": [20.0]}))
    keys = write_split(*PARTS)
    run, split = fitted("EASE", keys)
    config = config_of(keys)
    config["reg_weight"] = 20.0
    test = data_loaders(config, split)[2]
    trainer = TraditionalTrainer(config, EASE(config, split.train))
    assert dict(trainer.evaluate(test, load_best_model=False)) == run.test_result


def test_names():
    assert baseline_names("Pop,ItemKNN EASE , ALS") == ["Pop", "ItemKNN", "EASE", "ALS"]
    assert baseline_names("") == []


MISTAKES = {
    "ease": "baselines=ease: must be of Pop, ItemKNN, EASE, ALS; did you mean EASE?",
    "Pop,Pop": "baselines=Pop,Pop: Pop is there twice",
    "ALS": "baselines=ALS: needs implicit: pip install 'recbole-hns[baselines]'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_in_a_line(text, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: name != "implicit" and found(name, *more)
    )
    assert main(["compare", "--samplers=rns", f"--baselines={text}"]) == 2
    err = capsys.readouterr().err
    assert MISTAKES[text] in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_ease_needs_memory(write_split, monkeypatch):
    monkeypatch.setattr(baselines, "EASE_BYTES", 2**60)
    with pytest.raises(UserError, match="EASE inverts a dense matrix of"):
        fitted("EASE", write_split(*PARTS))
    assert not Path("EASE-1.json").exists()
