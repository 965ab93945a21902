"""Callbacks that keep track of a run, and runs of Weights & Biases."""

import csv
import importlib.machinery
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import QUIET

from recbole_hns import run
from recbole_hns.errors import UserError
from recbole_hns.trackers import CsvLog, MLflow

SHORT = {**QUIET, "epochs": 3, "embedding_size": 4, "topk": 5, "valid_metric": "MRR@5"}


def interrupt_after(epochs):
    def callback(end):
        if end.epochs == epochs:
            raise KeyboardInterrupt

    return callback


def lines_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- CSV ------------------------------------------------------------------------------------------


def test_a_csv_has_a_line_an_epoch(toy):
    result = run(config_dict={**SHORT, **toy, "eval_step": 2}, callbacks=[CsvLog("new/log.csv")])
    lines = lines_of("new/log.csv")
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    first = ["epoch", "train_loss", "train_seconds", "train_cpu_seconds", "hardness"]
    assert list(lines[0])[:5] == first
    assert [line["ndcg@5"] != "" for line in lines] == [False, True, False]
    for line, epoch in zip(lines, result.epochs):
        assert float(line["train_loss"]) == epoch["train_loss"]
    assert [float(line["mrr@5"]) for line in lines[1:2]] == [result["best_valid_result"]["mrr@5"]]


def test_a_resumed_run_has_all_its_epochs(toy):
    config = {**SHORT, **toy}
    with pytest.raises(KeyboardInterrupt):
        run(config_dict=config, callbacks=[CsvLog("log.csv"), interrupt_after(2)])
    assert len(lines_of("log.csv")) == 2
    (checkpoint,) = Path("saved").glob("*.pth")
    result = run(resume=checkpoint, callbacks=[CsvLog("log.csv")])
    lines = lines_of("log.csv")
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert [float(line["train_loss"]) for line in lines] == [
        epoch["train_loss"] for epoch in result.epochs
    ]


def test_a_csv_where_none_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be a directory that can be written to"):
        CsvLog(tmp_path / "file" / "log.csv")


# --- MLflow ---------------------------------------------------------------------------------------


class FakeClient:
    """What of MLflow's client is called, with the bounds that the real one has."""

    runs: list  # of dictionaries

    def __init__(self, uri):
        self.uri = uri

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name) if name == "known" else None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment, tags, run_name):
        self.runs.append(
            {"experiment": experiment, "tags": tags, "status": "RUNNING", "params": {},
             "metrics": [], "files": []}
        )  # fmt: skip
        return SimpleNamespace(info=SimpleNamespace(run_id=len(self.runs) - 1))

    def search_runs(self, experiments, text):
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=number))
            for number, run in enumerate(self.runs)
            for key, value in run["tags"].items()
            if text == f"tags.`{key}` = '{value}'" and run["experiment"] in experiments
        ]

    def update_run(self, number, status):
        self.runs[number]["status"] = status

    def log_batch(self, number, metrics=(), params=()):
        assert len(params) <= 100
        for key, value in params:
            assert self.runs[number]["params"].setdefault(key, value) == value
        for key, *_ in (*metrics, *params):
            assert all(letter.isalnum() or letter in "_-. /" for letter in key)
        self.runs[number]["metrics"] += metrics

    def log_artifact(self, number, path):
        self.runs[number]["files"].append(path)

    def set_terminated(self, number):
        self.runs[number]["status"] = "FINISHED"


@pytest.fixture
def runs(monkeypatch):
    FakeClient.runs = []
    entities = SimpleNamespace(
        Param=lambda key, value: (key, value),
        Metric=lambda key, value, time, step: (key, value, step),
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=FakeClient))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return FakeClient.runs


@pytest.mark.parametrize("experiment", ["known", "new"])
def test_mlflow_is_told_config_epochs_and_test(experiment, toy, runs):
    config = {**SHORT, **toy, "metrics": ["MRR", "LLPAUC"]}
    result = run(sampler="dns_mn", config_dict=config, callbacks=[MLflow(experiment)])
    (told,) = runs
    assert (told["experiment"], told["status"]) == (experiment, "FINISHED")
    assert told["params"]["dns_m"] == "40"
    assert told["params"]["model"] == "BPR"
    losses = [(value, step) for key, value, step in told["metrics"] if key == "train_loss"]
    assert losses == [(epoch["train_loss"], epoch["epoch"]) for epoch in result.epochs]
    last = {key: value for key, value, step in told["metrics"] if step == 3}
    assert last["mrr_at_5"] == result.epochs[-1]["mrr@5"]
    assert last["test_mrr_at_5"] == result.metrics["mrr@5"]
    assert last["test_llpauc_at_0.7_0.1"] == result.metrics["llpauc@0.7,0.1"]
    assert last["best_epoch"] == result.best_epoch
    assert told["files"] == [str(result.result_file)]


def test_a_resumed_run_goes_on_in_mlflow(toy, runs):
    with pytest.raises(KeyboardInterrupt):
        run(config_dict={**SHORT, **toy}, callbacks=[MLflow(), interrupt_after(2)])
    assert [told["status"] for told in runs] == ["RUNNING"]
    (checkpoint,) = Path("saved").glob("*.pth")
    run(resume=checkpoint, config_dict={"epochs": 4}, callbacks=[MLflow()])
    (told,) = runs
    assert told["status"] == "FINISHED"
    assert [step for key, _, step in told["metrics"] if key == "train_loss"] == [1, 2, 3, 4]
    # there is nothing left to train, nor to tell
    run(resume=checkpoint, callbacks=[MLflow()])
    assert len(runs) == 1


def test_two_runs_of_one_callback_are_two_in_mlflow(toy, runs):
    tracker = MLflow()
    for seed in (1, 2):
        run(config_dict={**SHORT, **toy, "seed": seed, "epochs": 1}, callbacks=[tracker])
    assert [told["params"]["seed"] for told in runs] == ["1", "2"]


def test_without_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    with pytest.raises(UserError, match=r"needs MLflow: pip install 'recbole-hns\[mlflow\]'$"):
        MLflow()


# --- Weights & Biases -----------------------------------------------------------------------------


class FakeWandb(ModuleType):
    """What of wandb is called."""

    Error = RuntimeError

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.run, self.runs, self.refuses = None, [], False

    def init(self, project, config):
        if self.refuses:
            raise RuntimeError("no API key")
        self.run = WandbRun(self, project, config)
        self.runs.append(self.run)
        return self.run

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values, commit=True):
        self.run.logged.append(values)


class WandbRun:
    def __init__(self, module, project, config):
        self.module, self.project, self.config = module, project, config
        self.logged, self.summary, self.ended = [], {}, None

    def __enter__(self):
        return self

    def __exit__(self, kind, *args):
        self.ended, self.module.run = kind or "finished", None


@pytest.fixture
def wandb(monkeypatch):
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_each_run_is_one_of_wandbs(toy, wandb):
    config = {**SHORT, **toy, "log_wandb": True, "wandb_project": "mine"}
    results = [run(model=model, config_dict=config) for model in ("BPR", "SGL")]
    assert [told.ended for told in wandb.runs] == ["finished"] * 2
    for told, result in zip(wandb.runs, results):
        assert told.project == "mine"
        assert told.config["candidate_num"] == result.config["candidate_num"]
        json.dumps(told.config, allow_nan=False)
        losses = [entry["train/train_loss"] for entry in told.logged if "train/train_loss" in entry]
        assert losses == [epoch["train_loss"] for epoch in result.epochs]
        hardness = [entry["train/hardness"] for entry in told.logged if "train/hardness" in entry]
        assert hardness == [epoch["hardness"] for epoch in result.epochs]
        valid = [entry["valid/mrr@5"] for entry in told.logged if "valid/mrr@5" in entry]
        assert valid == [epoch["mrr@5"] for epoch in result.epochs]
        assert told.summary["eval/mrr@5"] == result.metrics["mrr@5"]


def test_a_run_of_the_users_own_is_taken_and_left_open(toy, wandb):
    opened = wandb.init("own", {})
    run(config_dict={**SHORT, **toy, "log_wandb": True})
    assert wandb.runs == [opened]
    assert (wandb.run, opened.ended) == (opened, None)
    assert len(opened.logged) == 6


def test_a_run_that_fails_is_told_to_wandb(toy, wandb):
    with pytest.raises(KeyboardInterrupt):
        run(config_dict={**SHORT, **toy, "log_wandb": True}, callbacks=[interrupt_after(1)])
    assert wandb.runs[0].ended is KeyboardInterrupt


def test_a_wandb_that_refuses(toy, wandb):
    wandb.refuses = True
    with pytest.raises(UserError, match="log_wandb=True: no API key; WANDB_MODE=offline needs no"):
        run(config_dict={**SHORT, **toy, "log_wandb": True})
