"""The table of config keys: every flag has the keys that it is about, and none twice."""

import re

import pytest

from recbole_hns.config import Config
from recbole_hns.config.keys import KEYS, TABLE, forced, key_of
from recbole_hns.errors import UserError


def test_each_key_is_there_once():
    assert len(KEYS) == len(TABLE)


def test_what_a_resumed_run_may_change_is_no_part_of_what_it_learns():
    assert {key.name for key in TABLE if key.resumable} == {
        "data_path",
        "epochs",
        "eval_batch_size",
        "gpu_id",
        "log_wandb",
        "show_progress",
        "state",
        "stopping_step",
        "use_gpu",
        "wandb_project",
        "worker",
    }


def test_what_a_sweep_may_search():
    searched = {key.name for key in TABLE if key.searchable}
    assert {"learning_rate", "train_batch_size", "loss", "similarity"} <= searched
    # trials would not be comparable
    assert not {"seed", "metrics", "topk", "valid_metric", "protocol", "eval_step"} & searched


def test_what_jobs_force():
    assert forced("trial") == {
        "dataloaders_save_path": None,
        "save_dataset": False,
        "save_dataloaders": False,
        "show_progress": False,
    }
    assert forced("benchmark") == {
        **forced("trial"),
        "dataset_save_path": None,
        "log_wandb": False,
    }


def test_derived_keys_are_not_in_what_makes_the_config_again():
    config = Config()
    derived = {key.name for key in TABLE if key.derived}
    assert derived & config.final_config_dict.keys()
    assert not derived & config.resolved().keys()


@pytest.mark.parametrize("key", [key for key in TABLE if key.instead], ids=lambda key: key.name)
def test_what_a_sampler_replaces_or_recbole_derives_is_refused(key):
    with pytest.raises(UserError, match=re.escape(f"{key.name}=1: {key.instead}")):
        Config(config_dict={key.name: 1})


def test_a_key_that_is_not_in_the_table_is_any_value_of_the_runs_own():
    other = key_of("cor_weight")
    assert other.check("anything") == "anything"
    assert other.names_runs
    assert not any([other.resumable, other.searchable, other.derived, other.instead])
