"""What runs say of their protocol, and that all entries follow it."""

import json
from pathlib import Path

import pytest
from ready_split import named, pairs

from recbole_hns import load_data_and_model, run
from recbole_hns.data import create_dataset
from recbole_hns.errors import UserError
from recbole_hns.protocol import PAPER_NOTE, WHOLE_NOTE


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
