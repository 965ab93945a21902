"""Whole runs: what they leave, that they repeat, and that an interrupted one goes on."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUIET, environment

import recbole_hns
from recbole_hns import load_data_and_model, run
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.loss.registry import LOSSES
from recbole_hns.sampler.registry import SAMPLERS
from recbole_hns.training import trainer as trainer_module
from recbole_hns.training.trainer import HardNegativeTrainer

SHORT = {**QUIET, "epochs": 3}


def only(pattern):
    (path,) = Path().glob(pattern)
    return path


def record():
    return json.loads(only("saved/*.json").read_text())


def without_times(epochs):
    return [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in epochs]


def test_what_a_run_leaves(toy, capsys):
    result = run(sampler="ahns", config_dict={**SHORT, **toy, "state": "INFO"})
    content = record()
    assert [e["epoch"] for e in content["epochs"]] == [1, 2, 3]
    for epoch in content["epochs"]:
        assert {"train_loss", "train_seconds", "hardness", "eval_seconds", "ndcg@10"} <= set(epoch)
    assert content["seed"] == content["config"]["seed"] == 2020
    assert (content["sampler"], content["loss"]) == ("ahns", "bpr")
    assert content["config"]["ahns_alpha"] == 0.1
    assert {"python", "torch", "recbole", "recbole-hns"} <= set(content["versions"])
    assert content["test_result"] == result["test_result"]
    assert content["best_valid_result"] == result["best_valid_result"]
    assert content["best_valid_score"] == result["best_valid_score"]
    # counted from 1: training as many epochs again ends there
    best = content["epochs"][content["best_epoch"] - 1]
    assert best["mrr@10"] == max(e["mrr@10"] for e in content["epochs"])
    assert result["best_valid_result"].items() <= best.items()
    assert only("saved/log/BPR/*.log").stat().st_size
    assert only("saved/log_tensorboard/*/events*").stat().st_size
    checkpoint = torch.load(only("saved/*.pth"), weights_only=True)
    assert checkpoint["epoch"] + 1 == content["best_epoch"]
    shown = capsys.readouterr().err
    assert "hardness" in shown
    assert "metric          valid    test" in shown


def test_load_data_and_model_gives_the_best_epoch(toy):
    result = run("LightGCN", sampler="dns_mn", config_dict={**SHORT, **toy, "dns_m": 3})
    config, model, dataset, train_data, valid_data, test_data = load_data_and_model(
        only("saved/*.pth")
    )
    assert (config["model"], config["dns_m"]) == ("LightGCN", 3)
    trainer = HardNegativeTrainer(config, model)
    found = trainer.evaluate(test_data, load_best_model=False)
    assert found == result["test_result"]
    assert dataset.item_num == train_data._dataset.item_num
    assert len(valid_data)


def test_same_seed_same_metrics_twice(toy):
    keys = {**SHORT, **toy, "epochs": 4}
    for model, sampler in (("BPR", "softmax_v"), ("LightGCN", "ahns")):
        first, second, other = (
            run(model, sampler=sampler, config_dict={**keys, "seed": seed}, saved=False)
            for seed in (5, 5, 6)
        )
        assert first == second != other


@pytest.mark.parametrize(
    ("model", "sampler", "more"),
    [
        ("LightGCN", "softmax_v", {}),
        ("SGL", "ahns", {"eval_args": {"mode": "uni10"}}),
        ("NCL", "dns", {"num_clusters": 4, "warm_up_step": 1, "m_step": 4}),
        ("BPR", "dns_mn", {"dns_m": 3, "dns_mode": "draw", "eval_step": 5}),
        ("BPR", "rns", {"lr_decay": 0.1, "lr_decay_step": 2, "learning_rate": 0.1}),
        ("LightGCN", "dns", {"protocol": "paper", "eval_args": {"mode": "uni10"}}),
        ("BPR", "mixgcf", {}),
        ("LightGCN", "dens", {"dens_warmup": 5}),
        ("LightGCN", "ans", {}),
        ("BPR", "irgan", {"irgan_cycle": [2, 1]}),
        ("LightGCN", "irgan", {"irgan_cycle": [1, 2]}),
        ("LightGCN", "srns", {"srns_warmup": 5}),
    ],
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(model, sampler, more, toy, monkeypatch):
    """Stopped inside epoch 3, resumed from the end of epoch 2: all figures as uninterrupted."""
    keys = {**QUIET, **toy, "epochs": 6, "eval_step": 2, "train_batch_size": 64, **more}
    expected = run(model, sampler=sampler, config_dict=keys)
    whole = record()
    for path in Path("saved").glob("*.*"):
        path.unlink()

    class Stopped(Exception):
        pass

    batch_losses, calls = trainer_module.batch_losses, []

    def stop(batch, model, sampler, *more):
        calls.append(1)
        if sampler.epoch == 3 and len(calls) % 4 == 0:
            raise Stopped
        return batch_losses(batch, model, sampler, *more)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "batch_losses", stop)
        with pytest.raises(Stopped):
            run(model, sampler=sampler, config_dict=keys)
    checkpoint = only("saved/*.pth")
    assert [e["epoch"] for e in record()["epochs"]] == [1, 2, 3]

    assert run(resume=checkpoint) == expected
    again = record()
    assert without_times(again["epochs"]) == without_times(whole["epochs"])
    for key in ("best_epoch", "best_valid_result", "test_result", "seed", "config"):
        assert again[key] == whole[key]


def test_resume_of_a_finished_run_only_tests_again_and_can_be_given_more_epochs(toy):
    result = run(config_dict={**SHORT, **toy})
    checkpoint, content = only("saved/*.pth"), record()
    assert run(resume=checkpoint, config_dict=QUIET) == result
    assert record() == content
    run(resume=checkpoint, config_dict={"epochs": 5})
    assert [e["epoch"] for e in record()["epochs"]] == [1, 2, 3, 4, 5]


def test_resume_after_early_stopping_trains_no_more(toy):
    keys = {**QUIET, **toy, "epochs": 50, "stopping_step": 0, "learning_rate": 0.5}
    metrics = {"metrics": ["NDCG", "ItemCoverage"], "valid_metric": "NDCG@10"}
    result = run(config_dict={**keys, **metrics})
    content = record()
    assert len(content["epochs"]) < 50
    assert run(resume=only("saved/*.pth")) == result
    assert record() == content


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"learning_rate": 0.5}, "learning_rate=0.5: the run was started with 0.001"),
        ({"sampler": "dns"}, "sampler=dns: the run was started with dns_mn"),
        ({"model": "LightGCN"}, "model=LightGCN: the run was started with BPR"),
    ],
)
def test_a_resumed_run_stays_the_same_run(more, text, toy):
    run(config_dict={**QUIET, **toy, "epochs": 1})
    with pytest.raises(UserError, match=text):
        run(resume=only("saved/*.pth"), config_dict=more)


def test_a_run_is_resumed_from_another_directory(toy, tmp_path, monkeypatch):
    run(config_dict={**SHORT, **toy})
    expected, checkpoint = record(), only("saved/*.pth").resolve()
    monkeypatch.chdir(tmp_path.parent)
    run(resume=checkpoint)
    monkeypatch.chdir(tmp_path)
    assert record()["test_result"] == expected["test_result"]
    assert record()["epochs"] == expected["epochs"]


def test_a_resumed_run_needs_its_data(toy, tmp_path):
    run(config_dict={**QUIET, **toy, "epochs": 1})
    with (tmp_path / "dataset/toy/toy.inter").open("a") as file:
        file.write("new\tnew\t1\nnew\ti3\t2\nnew\ti4\t3\n")
    with pytest.raises(UserError, match="must be a checkpoint of a run on the same data set"):
        run(resume=only("saved/*.pth"))


def test_runs_of_the_same_second_have_files_of_their_own(toy, monkeypatch):
    monkeypatch.setattr(trainer_module, "get_local_time", lambda: "now")
    for seed in (1, 2):
        run(config_dict={**QUIET, **toy, "epochs": 1, "seed": seed})
    assert len(list(Path("saved").glob("*now*.pth"))) == 2
    assert len(list(Path("saved").glob("*now*.json"))) == 2


class Gated(recbole_hns.HardNegativeSampler):
    """A parameter that is learnt by its decay, and state for each user, as other samplers have."""

    def setup(self, model, epochs):
        self.gate = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(model.n_users, dtype=torch.int64))

    def select(self, scores, candidates, part):
        self.seen += torch.bincount(part.user, minlength=len(self.seen))
        return recbole_hns.Selection(scores.neg.argmax(dim=1, keepdim=True))


class Steep(recbole_hns.Loss):
    """A user's loss: a parameter that is learnt, and a count of users that is kept."""

    steepness: float = 2.0

    def setup(self, model, epochs):
        self.gate = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(model.n_users, dtype=torch.int64))

    def row_losses(self, scores, negatives, part):
        self.seen += torch.bincount(part.user, minlength=len(self.seen))
        margin = self.steepness * self.gate * (scores.neg - scores.pos)
        return torch.nn.functional.softplus(margin).mean(dim=1)


def test_sampler_and_loss_learn_and_keep_state(toy):
    keys = {**QUIET, **toy, "epochs": 4}
    run(sampler=Gated, loss=Steep, config_dict=keys)
    path = only("saved/*.pth")
    expected = torch.load(path, weights_only=True)["last"]
    assert expected["loss"]["gate"] != 1
    path.unlink()
    only("saved/*.json").unlink()
    run(sampler=Gated, loss=Steep, config_dict={**keys, "epochs": 2})
    run(sampler=Gated, loss=Steep, resume=only("saved/*.pth"), config_dict={"epochs": 4})
    found = torch.load(only("saved/*.pth"), weights_only=True)["last"]
    assert torch.equal(found["loss"]["gate"], expected["loss"]["gate"])
    for part in ("sampler", "loss"):
        assert torch.equal(found[part]["seen"], expected[part]["seen"])


def test_callbacks_are_called_at_the_end_of_every_epoch(toy):
    seen = []

    def look(end):
        # files are there already
        assert record()["epochs"][-1]["epoch"] == end.epochs
        seen.append((end.epochs, end.record["train_loss"], end.valid_score))

    run(config_dict={**SHORT, **toy, "eval_step": 2}, callbacks=[look])
    assert [epochs for epochs, _, _ in seen] == [1, 2, 3]
    assert [loss for _, loss, _ in seen] == [e["train_loss"] for e in record()["epochs"]]
    assert [score is None for _, _, score in seen] == [True, False, True]


def test_similarities_are_kept_by_the_checkpoint(toy):
    keys = {**SHORT, **toy, "similarity": "cosine", "loss": "softmax", "loss_tau": 0.3}
    result = run(sampler="dns_mn", config_dict={**keys, "dns_m": 3})
    path = only("saved/*.pth")
    config, model, *_, test_data = load_data_and_model(path)
    assert [config[key] for key in ("loss", "similarity", "eval_similarity")] == [
        "softmax",
        "cosine",
        "cosine",
    ]
    assert config.loss.loss_tau == 0.3
    found = HardNegativeTrainer(config, model).evaluate(test_data, load_best_model=False)
    assert found == result["test_result"]
    with pytest.raises(UserError, match="similarity=inner: the run was started with cosine"):
        run(resume=path, config_dict={"similarity": "inner"})
    with pytest.raises(UserError, match="loss=bpr: the run was started with softmax"):
        run(resume=path, loss="bpr")


def test_a_checkpoint_of_the_former_version_has_its_samplers_default_loss(toy):
    run(sampler="ssm", config_dict={**QUIET, **toy, "epochs": 2})
    path = only("saved/*.pth")
    state = torch.load(path, weights_only=True)
    del state["format"], state["last"]["loss"]
    for key in ("loss", "similarity", "eval_similarity", "candidate_sharing"):
        del state["config"][key]
    for entry in state["last"]["epochs"]:
        entry["epoch"] -= 1
    torch.save(state, path)
    config, *_ = load_data_and_model(path)
    assert config.loss.name == "softmax"
    run(resume=path, config_dict={"epochs": 3})
    assert [e["epoch"] for e in record()["epochs"]] == [1, 2, 3]


def test_a_checkpoint_cannot_name_code_to_import(toy):
    run(config_dict={**QUIET, **toy, "epochs": 1})
    path = only("saved/*.pth")
    state = torch.load(path, weights_only=True)
    for axis in ("sampler", "loss"):
        evil = {**state, "config": {**state["config"], axis: "antigravity:Class"}}
        torch.save(evil, path)
        with pytest.raises(UserError, match=rf"{axis}=antigravity:Class: is not one of"):
            load_data_and_model(path)


def test_sigkill_within_an_epoch_loses_only_that_epoch(toy):
    """The main job, killed as hard as can be; every file is whole and --resume goes on."""
    keys = [f"--{k}={v}".replace(" ", "") for k, v in toy.items()]
    script = [sys.executable, "-m", "recbole_hns", "run", "--state=ERROR", *keys]
    process = subprocess.Popen(
        [*script, "--epochs=100000", "--stopping_step=100000", "--sampler=dns"],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(Path().glob("saved/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()

    checkpoint, content = only("saved/*.pth"), record()
    last = torch.load(checkpoint, weights_only=True)["last"]
    # the result file is written right after the checkpoint
    assert last["epoch"] <= content["epochs"][-1]["epoch"] <= last["epoch"] + 1
    epochs = last["epoch"] + 3
    run(resume=checkpoint, config_dict={"epochs": epochs})
    assert [e["epoch"] for e in record()["epochs"]] == list(range(1, epochs + 1))
    assert record()["test_result"]


def test_interrupt_is_told_in_one_line(toy, monkeypatch, capfd):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(recbole_hns.quick_start, "run", interrupted)
    assert main(["run"]) == 130
    assert capfd.readouterr().err.startswith("recbole-hns: interrupted; --resume=")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    value, toy, monkeypatch
):
    loss = recbole_hns.Loss.forward

    def spoilt(self, *args):
        return loss(self, *args) * (value if self.epoch == 2 else 1)

    monkeypatch.setattr(recbole_hns.Loss, "forward", spoilt)
    with pytest.raises(UserError, match=f"Training loss is {value}"):
        run(config_dict={**SHORT, **toy})
    assert [e["epoch"] for e in record()["epochs"]] == [1, 2]


def test_a_user_without_negatives_for_the_sampler_is_a_mistake(write_dataset):
    """The last item was never trained with, so that popularity leaves this user none."""
    keys = write_dataset([(0, i) for i in range(12)])
    keys.update(topk=3, valid_metric="MRR@3", eval_args={"split": {"RS": [0.5, 0.2, 0.3]}})
    assert run(sampler="rns", config_dict={**SHORT, **keys})["test_result"]
    with pytest.raises(UserError, match=r"dataset=toy: user u0 .* leaves no negative"):
        run(sampler="pns", config_dict={**SHORT, **keys})


def test_saved_false_leaves_no_checkpoint_and_no_result_file(toy):
    run(config_dict={**SHORT, **toy}, saved=False)
    assert {path.name for path in Path().glob("saved/*")} == {"log", "log_tensorboard"}


def test_ready_split_with_test_as_validation(tmp_path):
    folder = tmp_path / "dataset" / "split"
    folder.mkdir(parents=True)
    rows = {
        "train": [(u, i) for u in range(9) for i in range(u, u + 5)],
        "test": [(u, u + 6) for u in range(9)],
    }
    for part, pairs in rows.items():
        lines = ["user_id:token\titem_id:token", *(f"{u}\t{i}" for u, i in pairs)]
        (folder / f"split.{part}.inter").write_text("\n".join(lines) + "\n")
    result = run(
        dataset="split",
        config_dict={
            **SHORT,
            "benchmark_filename": ["train", "test", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
        },
    )
    assert result["best_valid_result"] == result["test_result"]


SMALL = {
    "BPR": {},
    "LightGCN": {},
    "NGCF": {},
    "DGCF": {},
    "SGL": {},
    "NCL": {"num_clusters": 3, "warm_up_step": 1},
    "SpectralCF": {},
    "ConvNCF": {"cnn_channels": [1, 2, 2, 2, 2]},
}


@pytest.mark.parametrize("sampler", ["ahns", "dns_mn"])
@pytest.mark.parametrize("model", SMALL)
def test_every_pairwise_model_trains(model, sampler, toy):
    keys = {**SHORT, **toy, **SMALL[model], "epochs": 2, "train_batch_size": 128}
    result = run(model, sampler=sampler, config_dict={**keys, "candidate_num": 8, "dns_m": 2})
    assert 0 <= result["test_result"]["ndcg@10"] <= 1
    assert math.isfinite(record()["epochs"][-1]["hardness"])


@pytest.mark.parametrize(
    "keys",
    [
        {"clip_grad_norm": {"max_norm": 0.1}},
        {"enable_amp": True},
        {"learner": "sgd", "weight_decay": 0.01},
        {"candidate_distribution": "popularity", "candidate_alpha": 0.5},
        {"eval_args": {"mode": "uni20"}},
        {"eval_args": {"mode": "pop20"}},
        {"eval_step": 0},
        {"shuffle": False},
    ],
    ids=str,
)
def test_recboles_own_settings_go_along(keys, toy):
    result = run("LightGCN", sampler="dns_mn", config_dict={**SHORT, **toy, **keys, "dns_m": 5})
    assert result["test_result"]["ndcg@10"] >= 0
    assert record()["best_epoch"] == (3 if "eval_step" in keys else record()["best_epoch"])


def test_a_users_own_sampler(tmp_path, toy, monkeypatch):
    """As in the README: one class in a file of the user's, named on the command line."""
    (tmp_path / "mine.py").write_text(
        "from recbole_hns import HardNegativeSampler, Selection, register_sampler\n"
        "@register_sampler('second')\n"
        "class Second(HardNegativeSampler):\n"
        "    rank: int = 2\n"
        "    def select(self, scores, candidates, part):\n"
        "        return Selection(scores.neg.topk(self.rank, dim=1).indices[:, -1:])\n"
    )
    keys = [f"--{k}={v}".replace(" ", "") for k, v in toy.items()]
    arguments = ["--sampler=mine:Second", "--rank=3", "--epochs=1", "--state=ERROR"]
    assert main(["run", *arguments, "--show_progress=False", *keys]) == 0
    content = record()
    assert (content["sampler"], content["config"]["rank"]) == ("mine:Second", 3)
    assert main(["run", *arguments, "--rank=many"]) == 2
    registered = SAMPLERS.pop("second")
    assert registered.hyperparameters["rank"].default == 2


def test_a_users_own_loss(tmp_path, toy, monkeypatch, capsys):
    """As in the README, by its path, by which the help has it too."""
    (tmp_path / "ours.py").write_text(
        "from recbole_hns import Loss, register_loss\n"
        "@register_loss('linear')\n"
        "class Linear(Loss):\n"
        '    "A straight line."\n'
        "    linear_slope: float = 2.0\n"
        "    def row_losses(self, scores, negatives, part):\n"
        "        return self.linear_slope * (scores.neg - scores.pos).mean(dim=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    keys = [f"--{k}={v}".replace(" ", "") for k, v in toy.items()]
    arguments = ["--loss=ours:Linear", "--linear_slope=1.5", "--epochs=1", "--state=ERROR"]
    assert main(["run", *arguments, "--show_progress=False", *keys]) == 0
    try:
        content = record()
        assert (content["loss"], content["config"]["linear_slope"]) == ("ours:Linear", 1.5)
        assert main(["run", *arguments, "--linear_slope=steep"]) == 2
        for name in ("linear", "ours:Linear"):
            capsys.readouterr()
            assert main(["run", f"--help={name}"]) == 0
            assert re.search(
                r"Loss linear: A straight line\.\n\nKeys:\n  --linear_slope=2\.0 +a number",
                capsys.readouterr().out,
            )
    finally:
        LOSSES.pop("linear")
