"""The protocols: which parts are trained on, select the epoch and are tested."""

from pathlib import Path

import pytest
from conftest import QUIET
from ready_split import PARTS, named, pairs
from recbole.utils import init_seed

from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError


def loaders(keys):
    config = Config(config_dict=keys)
    # a split by ratio is drawn
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))


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
    assert train._sampler.pool.popularity.sum() == len(named("train", "valid"))
    assert test._sampler.pool.popularity.sum() == len(named(*PARTS))


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


def test_saved_data_loaders_are_not_those_of_another_protocol(write_split):
    keys = {**write_split("train", "valid", "test"), "save_dataloaders": True}
    Path("saved").mkdir()
    for protocol, expected in (("valid", ["train"]), ("paper", ["train", "valid"])) * 2:
        for _ in range(2):
            train, valid, test = loaders({**keys, "protocol": protocol})
            assert pairs(train) == named(*expected)
            assert len(list(valid)) == len(list(test)) > 0
