"""``repeatable: True``: users may come back to what they know, in evaluation as RecBole's."""

import numpy as np
import pytest
import recbole.data.utils as recbole_data
import torch
from conftest import QUIET
from fake_dataset import dataset
from recbole.config import Config as RecBoleConfig
from recbole.trainer import Trainer

from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.data.eval_sampler import EvalSampler, RepeatableEvalSampler
from recbole_hns.quick_start import build_model
from recbole_hns.training.trainer import HardNegativeTrainer

KEYS = {
    **QUIET,
    "embedding_size": 8,
    "metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision"],
    "topk": [1, 5, 10],
    "valid_metric": "MRR@5",
    "metric_decimal_place": 12,
}


def evaluations(monkeypatch, keys):
    """Validation and test result of one model's parameters, by this package and by RecBole."""
    config = Config(config_dict={**KEYS, **keys, "sampler": "rns"})
    torch.manual_seed(0)
    train, *loaders = data_preparation(config, create_dataset(config))
    model = build_model(config, train._dataset)
    trainer = HardNegativeTrainer(config, model)
    ours = [trainer.evaluate(loader, load_best_model=False) for loader in loaders]
    monkeypatch.setattr("sys.argv", ["x"])
    config = RecBoleConfig("BPR", config_dict={**KEYS, **keys, "data_path": "dataset"})
    torch.manual_seed(0)
    train, *loaders = recbole_data.data_preparation(config, recbole_data.create_dataset(config))
    trainer = Trainer(config, model)
    trainer.eval_collector.data_collect(train)
    theirs = [trainer.evaluate(loader, load_best_model=False) for loader in loaders]
    return ours, theirs


@pytest.mark.parametrize(
    "split", [{"RS": [0.6, 0.2, 0.2]}, {"LS": "valid_and_test"}], ids=["ratio", "leave one out"]
)
def test_full_ranking_masks_no_history_as_in_recbole(split, toy, monkeypatch):
    keys = {**toy, "eval_args": {"split": split, "order": "RO", "mode": "full"}}
    masked, expected = evaluations(monkeypatch, {**keys, "repeatable": False})
    assert masked == expected
    found, expected = evaluations(monkeypatch, {**keys, "repeatable": True})
    assert found == expected
    assert found != masked


def test_sampled_negatives_are_all_but_the_positive():
    train, valid = dataset([(1, 2), (1, 3), (2, 5)], 3, 8), dataset([(1, 4), (2, 2)], 3, 8)
    both = RepeatableEvalSampler(["train", "valid"], [train, valid])
    sampler = both.set_phase("valid")
    drawn = sampler.sample_by_user_ids(np.array([1, 2]), np.array([4, 2]), 500)
    assert drawn.shape == (1000,)
    assert set(drawn[0::2].tolist()) == {1, 2, 3, 5, 6, 7}
    assert set(drawn[1::2].tolist()) == {1, 3, 4, 5, 6, 7}
    popular = both.with_distribution("popularity", 1.0).set_phase("valid")
    drawn = popular.sample_by_user_ids(np.array([1, 2]), np.array([4, 2]), 500)
    assert set(drawn[0::2].tolist()) == {2, 3, 5}
    assert set(drawn[1::2].tolist()) == {3, 4, 5}
    # of the others, 2 is there twice
    assert (drawn[0::2] == 2).float().mean() == pytest.approx(0.5, abs=0.1)


def test_an_only_item_has_no_negative():
    data = dataset([(1, 2), (2, 2)], 3, 8)
    sampler = RepeatableEvalSampler(["valid"], [data], "popularity").set_phase("valid")
    with pytest.raises(ValueError, match="a positive is the only item"):
        sampler.sample_by_user_ids(np.array([1]), np.array([2]), 3)


def test_training_draws_from_the_same_pool_as_ever():
    data = dataset([(1, 2), (1, 3), (2, 5)], 3, 8)
    for sampler_class in (EvalSampler, RepeatableEvalSampler):
        sampler = sampler_class(["train"], [data]).set_phase("train")
        drawn = sampler.pool.draw(torch.tensor([1, 2]), 500)
        assert set(drawn[0].tolist()) == {1, 4, 5, 6, 7}
        assert set(drawn[1].tolist()) == {1, 2, 3, 4, 6, 7}


@pytest.mark.parametrize("mode", ["uni20", "pop20"])
def test_sampled_evaluation_is_near_recboles(mode, toy, monkeypatch):
    keys = {
        **toy,
        "repeatable": True,
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "mode": mode},
    }
    ours, theirs = evaluations(monkeypatch, keys)
    for found, expected in zip(ours, theirs, strict=True):
        # other draws: what is compared is a mean over 30 users
        assert found["mrr@10"] == pytest.approx(expected["mrr@10"], abs=0.15)
