"""Validation of a sample of users: who they are, and that nothing else is of them only."""

import json
from pathlib import Path

import pytest
import torch
from conftest import QUIET
from recbole.utils import init_seed

from recbole_hns import load_data_and_model, run
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError

KEYS = {**QUIET, "sampler": "rns", "embedding_size": 8, "epochs": 2, "eval_users": 7}


def loaders(**keys):
    config = Config(config_dict={**KEYS, **keys})
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))


def users_of(loader):
    return loader._dataset.inter_feat["user_id"].unique().tolist()


def test_validation_is_of_the_same_users_for_a_seed_and_the_test_of_all(toy):
    train, valid, test = loaders(**toy)
    everyone = loaders(**toy, eval_users=None)
    sample = users_of(valid)
    assert len(sample) == len(valid.uid_list) == 7
    assert sample == users_of(loaders(**toy)[1])
    samples = {tuple(users_of(loaders(**toy, seed=seed)[1])) for seed in (1, 2, 3)}
    assert len(samples) == 3
    assert users_of(test) == users_of(everyone[2])
    assert len(users_of(test)) == 30
    # they are validated as among all
    every = {user: rest for batch in everyone[1] for user, *rest in by_user(batch)}
    for batch in valid:
        for user, *rest in by_user(batch):
            assert rest == every[user]
    for ours, theirs in ((train, everyone[0]), (test, everyone[2])):
        assert ours._dataset.inter_feat["item_id"].equal(theirs._dataset.inter_feat["item_id"])
    assert len(users_of(loaders(**toy, eval_users=999)[1])) == 30


def by_user(batch):
    """Each user with the history and the positives, of a batch of full ranking."""
    user_df, history, *positive = batch
    for row, user in enumerate(user_df["user_id"].tolist()):
        yield user, *(items[rows == row].tolist() for rows, items in (history, positive))


@pytest.mark.parametrize("mode", ["full", "uni20", "pop20"])
@pytest.mark.parametrize("protocol", ["valid", "paper"])
def test_runs_are_chosen_by_the_sample_and_tested_on_all(mode, protocol, toy):
    keys = {"eval_args": {"mode": mode}, "protocol": protocol, "topk": [3], "valid_metric": "MRR@3"}
    _, valid, test = loaders(**toy, **keys)
    assert (len(users_of(valid)), len(users_of(test))) == (7, 30)
    result = run(config_dict={**KEYS, **toy, **keys}, saved=False)
    assert result["best_valid_result"].keys() == result["test_result"].keys()


def test_values_are_rated_of_the_sample_only(tmp_path):
    lines = [f"u{u}\ti{i}\t{1 + (u + i) % 2}" for u in range(20) for i in range(10)]
    folder = tmp_path / "dataset" / "rated"
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id:token\trating:float"
    (folder / "rated.inter").write_text("\n".join([header, *lines]) + "\n")
    keys = {"dataset": "rated", "threshold": {"rating": 2}, "eval_args": {"mode": "labeled"}}
    _, valid, test = loaders(**keys, metrics=["AUC"], valid_metric="AUC")
    assert (len(users_of(valid)), len(users_of(test))) == (7, 20)


def test_a_resumed_run_has_the_same_users_and_the_result_file_their_number(toy):
    keys = {**KEYS, **toy, "checkpoint_dir": "whole"}
    run(config_dict={**keys, "epochs": 3})
    run(config_dict={**keys, "checkpoint_dir": "parts", "epochs": 1})
    (checkpoint,) = Path("parts").glob("*.pth")
    run(resume=checkpoint, config_dict={"epochs": 3})
    records = []
    for folder in ("whole", "parts"):
        (path,) = Path(folder).glob("*.json")
        records.append(json.loads(path.read_text()))
        assert records[-1]["config"]["eval_users"] == 7
    for one, other in zip(*(record["epochs"] for record in records), strict=True):
        assert one["recall@10"] == other["recall@10"]
    assert records[0]["test_result"] == records[1]["test_result"]
    with pytest.raises(UserError, match="eval_users=9: the run was started with 7"):
        run(resume=checkpoint, config_dict={"epochs": 4, "eval_users": 9})
    # all users are what `evaluate` has
    assert len(load_data_and_model(checkpoint).test_data.uid_list) == 30


def test_saved_loaders_are_not_those_of_another_number(toy, caplog):
    Path("saved").mkdir()
    loaders(**toy, save_dataloaders=True)
    named = {"dataloaders_save_path": "saved/toy-for-BPR-dataloader.pth"}
    assert len(users_of(loaders(**toy, **named)[1])) == 7
    assert "is not used" not in caplog.text
    assert len(users_of(loaders(**toy, **named, eval_users=8)[1])) == 8
    assert "is not used: they were saved with other settings" in caplog.text


def test_the_sample_takes_no_draw_from_what_training_draws_with(toy):
    loaders(**toy)
    after = torch.rand(1)
    loaders(**toy, eval_users=None)
    assert after == torch.rand(1)
