"""What runs say of their protocol, and that all entries follow it."""

import json
from pathlib import Path

import pytest
from conftest import QUIET
from ready_split import named, pairs

from recbole_hns import load, load_data_and_model, run
from recbole_hns.cli import main
from recbole_hns.data import create_dataset
from recbole_hns.errors import UserError
from recbole_hns.protocol import ALL_NOTE, PAPER_NOTE, WHOLE_NOTE


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
    (log,) = Path("saved/log/BPR").glob("*.log")
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


# --- training on everything -----------------------------------------------------------------------


@pytest.mark.parametrize("files", [None, ["train", "test"], ["train", "test", "test"]])
def test_all_trains_on_every_part(files, write_split, capsys):
    keys = {**write_split("train", "valid", "test"), "protocol": "all", "state": "INFO"}
    result = run(config_dict={**keys, **({"benchmark_filename": files} if files else {})})
    assert (result["best_valid_result"], result["test_result"], result.metrics) == (None, None, {})
    assert result.best_epoch == len(result.epochs) == 3
    content = json.loads(result.result_file.read_text())
    assert (content["protocol"], content["note"], content["best_epoch"]) == ("all", ALL_NOTE, 3)
    assert "test_result" not in content
    shown = capsys.readouterr().err
    assert shown.count(ALL_NOTE) == 2
    assert "test result" not in shown
    assert "topk, valid_metric have no effect with protocol=all, which evaluates nothing" in shown
    *_, train, valid, test = load_data_and_model(result.checkpoint)
    assert (valid, test) == (None, None)
    parts = ["train", "valid", "test"] if files is None else ["train", "test"]
    assert pairs(train) == named(*parts)


def test_all_trains_on_every_interaction_of_a_split_of_recboles(toy):
    keys = {**QUIET, **toy, "protocol": "all", "epochs": 1, "embedding_size": 4}
    for split in ({"RS": [8, 1, 1]}, {"LS": "valid_and_test"}):
        result = run(config_dict={**keys, "eval_args": {"split": split}})
        *_, dataset, train, _, _ = load_data_and_model(result.checkpoint)
        assert len(pairs(train)) == result.dataset.inter_num == len(dataset)


def test_all_goes_on_where_it_was_interrupted(write_split):
    keys = {**write_split("train", "valid", "test"), "protocol": "all"}
    whole = run(config_dict={**keys, "epochs": 3, "checkpoint_dir": "whole"})
    first = run(config_dict={**keys, "epochs": 2, "checkpoint_dir": "first"})
    both = run(resume=first.checkpoint, config_dict={"epochs": 3})
    for a, b in zip(whole.model.state_dict().values(), both.model.state_dict().values()):
        assert (a == b).all()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"epochs": None}, "protocol=all: needs epochs, as nothing selects one: the best_epoch of"),
        ({"save_dataloaders": True}, "save_dataloaders=True: is of validation and test parts too"),
        ({"dataloaders_save_path": "a"}, "dataloaders_save_path=a: is of validation and test"),
        ({"protocol": "al"}, "protocol=al: must be valid or paper or all; did you mean all?"),
    ],
)
def test_what_has_no_meaning_with_all(keys, told, write_split):
    given = {**write_split("train", "valid", "test"), "protocol": "all", **keys}
    with pytest.raises(UserError) as caught:
        run(config_dict={key: value for key, value in given.items() if value is not None})
    assert str(caught.value).startswith(told)
    assert not Path("saved").exists()


@pytest.mark.parametrize("command", ["tune", "compare", "benchmark"])
def test_what_compares_does_not_train_on_all(command, write_split, capsys):
    write_split("train", "valid", "test")
    keys = ["--dataset=split", "--protocol=all", "--epochs=1", "--topk=5", "--valid_metric=MRR@5"]
    assert main([command, *keys]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("recbole-hns: error: protocol=all: must be valid")


def test_a_run_says_how_to_train_on_all(write_split, capsys):
    keys = {**write_split("train", "valid", "test"), "state": "INFO"}
    result = run(config_dict=keys)
    told = f"--protocol=all --epochs={result.best_epoch}, trains on every part"
    assert told in capsys.readouterr().err
    run(config_dict={**keys, "protocol": "paper"})
    assert "to deploy" not in capsys.readouterr().err


def test_all_needs_no_metric_to_select_by(toy):
    keys = {**QUIET, **toy, "protocol": "all", "epochs": 1, "embedding_size": 4}
    # the default valid_metric is not of these
    result = run(config_dict={**keys, "metrics": ["GAUC"], "valid_metric": "MRR@10"})
    assert load(result.checkpoint).recommend("u1").equals(result.recommend("u1"))
