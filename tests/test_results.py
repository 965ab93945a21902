"""The result file: what is written is what is read, of this version and of the former."""

import json
import math

import pytest

from recbole_hns.errors import UserError
from recbole_hns.results import RunRecord, read_run, versions

CONFIG = {
    "model": "BPR",
    "dataset": "toy",
    "sampler": "dns",
    "loss": "bpr",
    "seed": 1,
    "protocol": "valid",
    "eval_step": 1,
    "topk": [5],
}


@pytest.fixture
def record(tmp_path):
    record = RunRecord(tmp_path / "a-run.json", CONFIG)
    record.epochs = [
        {"epoch": 1, "train_loss": 2.0, "train_seconds": 0.5, "hardness": None},
        {
            "epoch": 2,
            "train_loss": 1.0,
            "train_seconds": 0.5,
            "hardness": 0.5,
            "eval_seconds": 0.1,
            "ndcg@5": 0.3,
            "auc": math.nan,
        },
    ]
    record.results = {
        "best_epoch": 2,
        "best_valid_score": 0.3,
        "best_valid_result": {"ndcg@5": 0.3, "auc": math.nan},
    }
    return record


def test_what_is_written_is_read(record):
    record.write()
    content = json.loads(record.path.read_text())
    assert content["run"] == "a-run"
    assert content["versions"] == versions()
    assert content["config"] == CONFIG
    # undefined is null, unknown is not there
    assert content["epochs"][0] == {
        "epoch": 1,
        "train_loss": 2.0,
        "train_seconds": 0.5,
        "hardness": None,
    }
    assert content["epochs"][1]["auc"] is None
    assert "test_result" not in content
    assert "note" not in content
    run = read_run(record.path)
    assert run == record.content()
    assert (run.loss, run.best_epoch, run.test_result) == ("bpr", 2, None)
    assert run.epochs[1].metrics == {"ndcg@5": 0.3, "auc": None}
    assert run.epochs[0].eval_seconds is None


def test_a_finished_run_has_its_test_result(record):
    record.results["test_result"] = {"ndcg@5": 0.2}
    record.write()
    assert read_run(record.path).test_result == {"ndcg@5": 0.2}


def test_a_file_of_the_former_version_counted_epochs_from_0(record):
    record.write()
    content = json.loads(record.path.read_text())
    for entry in content["epochs"]:
        entry["epoch"] -= 1
    content["best_epoch"] -= 1
    del content["loss"]
    record.path.write_text(json.dumps(content))
    run = read_run(record.path)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    assert (run.best_epoch, run.loss) == (2, None)


def test_the_protocol_paper_leaves_a_note(tmp_path, record):
    paper = RunRecord(tmp_path / "paper.json", {**CONFIG, "protocol": "paper"})
    paper.epochs = record.epochs
    paper.write()
    assert "selected on the test part" in read_run(paper.path).note


@pytest.mark.parametrize("missing", ["sampler", "config", "epochs"])
def test_what_a_file_needs(missing, record):
    record.write()
    content = json.loads(record.path.read_text())
    del content[missing]
    record.path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"is no result file of a run: {missing}"):
        read_run(record.path)
