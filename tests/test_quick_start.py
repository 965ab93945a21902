"""Models as runs build them, and what a run shows and leaves: log, progress, threads."""

import errno
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import QUIET
from ready_split import PARTS

from recbole_hns import run
from recbole_hns.config import Config
from recbole_hns.data import create_dataset
from recbole_hns.errors import UserError
from recbole_hns.quick_start import build_model
from recbole_hns.training import checkpoint


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_embeddings_start_as_told(model, toy):
    config = Config(model, config_dict={**QUIET, **toy, "embedding_std": 0.3})
    dataset = create_dataset(config)
    network = build_model(config, dataset)
    for table in (network.user_embedding.weight, network.item_embedding.weight):
        assert table.std().item() == pytest.approx(0.3, rel=0.1)
        assert abs(table.mean().item()) < 0.05
    assert torch.isfinite(network.item_embedding.weight).all()


def test_a_run_leaves_the_streams_as_they_are(toy):
    """Each of RecBole's loggers would wrap them once more."""
    before = sys.stdout, sys.stderr
    run(config_dict={**QUIET, **toy, "epochs": 1, "embedding_size": 4})
    assert (sys.stdout, sys.stderr) == before


# --- TensorBoard ----------------------------------------------------------------------------------


def writers():
    """Threads of TensorBoard's."""
    return [each for each in threading.enumerate() if "tensorboard" in type(each).__module__]


def interrupt(end):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("keys", "callbacks", "error"),
    [
        ({}, [], None),
        ({"learning_rate": 1e30}, [], UserError),
        ({}, [interrupt], KeyboardInterrupt),
        ({}, [lambda end: 1 / 0], ZeroDivisionError),
    ],
)
def test_no_thread_of_tensorboard_outlives_a_run(keys, callbacks, error, toy):
    before = writers()
    config = {**QUIET, **toy, "epochs": 3, "embedding_size": 4, **keys}
    if error is None:
        run(config_dict=config)
    else:
        with pytest.raises(error):
            run(config_dict=config, callbacks=callbacks)
    assert writers() == before


def test_nor_does_one_outlive_a_trainer_that_cannot_be_made(toy, monkeypatch):
    monkeypatch.setattr("recbole_hns.training.trainer.make_adapter", lambda *args: 1 / 0)
    before = writers()
    with pytest.raises(ZeroDivisionError):
        run(config_dict={**QUIET, **toy, "embedding_size": 4})
    assert writers() == before


def test_nor_does_one_outlive_a_checkpoint_that_does_not_fit(toy):
    run(config_dict={**QUIET, **toy, "epochs": 1, "embedding_size": 4})
    (path,) = Path("saved").glob("*.pth")
    state = checkpoint.load_checkpoint(path)
    state["last"]["loader"] = torch.zeros(3, dtype=torch.uint8)
    checkpoint.save_checkpoint(state, path)
    before = writers()
    with pytest.raises(UserError, match="resume="):
        run(resume=path, config_dict={"epochs": 2, **QUIET})
    assert writers() == before


#: A run in which no file may grow from some epoch on; prints what was told, then the threads.
FULL = """
import resource, sys, threading
from pathlib import Path
import recbole_hns
from recbole_hns import cli, quick_start

def no_more(end):
    if end.epochs == 2:
        largest = max(path.stat().st_size for path in Path(sys.argv[1]).rglob("*.*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50, -1))

run = quick_start.run
quick_start.run = lambda **keys: run(**keys, callbacks=[no_more], saved=SAVED)
sys.exit(cli.main(["run", *sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    ("grows", "saved", "state", "told"),
    [
        ("saved/log", False, "INFO", ".log: cannot be written (File too large)"),
        (
            "saved/log_tensorboard",
            False,
            "ERROR",
            "log_tensorboard: cannot be written (File too large)",
        ),
        # the smaller of the two, whose records grow
        ("saved", True, "ERROR", "cannot be written (File too large)"),
    ],
)
def test_a_disk_that_is_full_in_mid_run_is_told_in_one_line(grows, saved, state, told, toy):
    keys = {"dataset": "toy", "embedding_size": 4, "state": state, "show_progress": False}
    arguments = [f"--{key}={value}" for key, value in keys.items()]
    arguments += ["--load_col={'inter': ['user_id', 'item_id']}", "--epochs=400"]
    arguments += ["--stopping_step=400"]
    code = FULL.replace("SAVED", str(saved))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, grows, *arguments],
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1
    assert lines[0].startswith("recbole-hns: error: ")
    assert lines[0].endswith(told)
    assert "Traceback" not in done.stderr
    assert not list(Path("saved").glob(".*"))
    for path in Path("saved").glob("*.pth"):
        assert checkpoint.load_checkpoint(path)["last"]["epoch"] >= 1


def test_a_full_disk_in_another_library_is_told_in_one_line(toy, monkeypatch, capsys):
    from recbole_hns import cli, quick_start

    def full(**keys):
        raise OSError(errno.ENOSPC, "No space left on device", "cache.nbi")

    monkeypatch.setattr(quick_start, "run", full)
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == (
        "recbole-hns: error: cache.nbi: cannot be written (No space left on device)\n"
    )
    monkeypatch.setattr(quick_start, "run", lambda **keys: Path("absent").stat())
    with pytest.raises(FileNotFoundError):
        cli.main(["run"])


# --- the log --------------------------------------------------------------------------------------


def logged(capfd, **keys):
    """What a run writes to the terminal and into its log file."""
    for path in Path("saved/log").rglob("*.log"):
        path.unlink()
    capfd.readouterr()
    run(config_dict={"epochs": 1, "embedding_size": 4, **keys})
    (path,) = Path("saved/log").rglob("*.log")
    return capfd.readouterr().err, path.read_text()


def test_the_terminal_has_the_config_in_short_and_the_file_in_full(toy, capfd):
    shown, written = logged(
        capfd, **toy, sampler="dns", candidate_num=7, topk=5, valid_metric="MRR@5"
    )
    head = shown[: shown.index("The number of users")]
    assert head.count("\n") < 25
    for line in ("model = BPR", "sampler = dns", "candidate_num = 7", "loss = bpr", "epochs = 1"):
        assert f"  {line}\n" in head
    # a default, and what RecBole derives
    assert "stopping_step" not in shown
    assert "valid_metric_bigger" not in shown
    for line in ("  stopping_step = 10\n", "  candidate_num = 7\n", "  topk = [5]\n"):
        assert line in written
    assert written.count("\n  ") > 60
    assert "'split': {'RS': [0.8, 0.1, 0.1]}" in written


def test_a_ready_split_has_no_eval_args_but_the_mode(write_split, capfd):
    keys = {**write_split(*PARTS), "state": "INFO", "benchmark_filename": list(PARTS)}
    shown, written = logged(capfd, **keys)
    for text in (shown, written):
        assert "'RS'" not in text
        assert "group_by" not in text
        assert "'mode'" in text


@pytest.mark.parametrize(
    ("terminal", "given", "shows"),
    [(False, {}, False), (True, {}, True), (False, {"show_progress": True}, True),
     (True, {"show_progress": False}, False)],
)  # fmt: skip
def test_progress_bars_are_for_terminals(terminal, given, shows, toy, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    shown, _ = logged(capfd, **toy, **given)
    assert ("Train     1" in shown, "Evaluate   " in shown) == (shows, shows)


def test_a_resumed_run_shows_progress_as_its_own_call_says(toy, capfd):
    run(config_dict={**toy, "epochs": 1, "embedding_size": 4, "show_progress": True})
    (path,) = Path("saved").glob("*.pth")
    for given, shows in (({}, False), ({"show_progress": True}, True)):
        capfd.readouterr()
        epochs = checkpoint.load_checkpoint(path)["last"]["epoch"] + 2
        run(resume=path, config_dict={"epochs": epochs, **given})
        assert ("Train " in capfd.readouterr().err) == shows


@pytest.mark.parametrize(
    ("keys", "warns"),
    [
        ({"weight_decay": 1e-6}, True),
        ({"weight_decay": 1e-6, "reg_weight": 0.01}, False),
        ({"weight_decay": 1e-6, "reg_weight": 0.0}, False),
        ({"reg_weight": 0.01}, False),
        ({"weight_decay": 1e-6, "model": "BPR"}, False),
    ],
    ids=str,
)
def test_two_kinds_of_l2_are_warned_of_where_one_is_a_default(keys, warns, toy, caplog):
    keys = {"model": "LightGCN", **keys}
    with caplog.at_level(logging.WARNING):
        run(
            config_dict={
                **QUIET,
                **toy,
                "state": "WARNING",
                "epochs": 1,
                "embedding_size": 4,
                **keys,
            }
        )
    assert "double regularization" not in caplog.text
    assert ("comes on top of reg_weight=1e-05" in caplog.text) == warns


@pytest.mark.parametrize(("batch_size", "warns"), [(2048, True), (1, False)])
def test_early_stopping_after_few_batches_is_told(batch_size, warns, toy, capfd):
    keys = {"epochs": 99, "stopping_step": 1, "learning_rate": 0.1, "train_batch_size": batch_size}
    _, log = logged(capfd, **toy, **keys)
    assert ("few to learn from; a smaller train_batch_size" in log) == warns


def test_a_data_set_that_is_not_there_leaves_nothing(toy, capfd):
    name = toy["dataset"]
    with pytest.raises(UserError, match=f"must be a folder of data_path=.*; did you mean {name}"):
        run(config_dict={**toy, "dataset": f"{name}x"})
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in Path().iterdir()] == ["dataset"]


def test_an_interrupted_run_names_its_checkpoint(toy):
    def interrupt(end):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        run(config_dict={**toy, "epochs": 2, "show_progress": False}, callbacks=[interrupt])
    (path,) = Path("saved").glob("*.pth")
    assert f"--resume={path} goes on" in str(told.value)


def test_colours_are_for_terminals(toy, capfd):
    shown, written = logged(capfd, **toy)
    assert "epoch 1 training" in shown
    assert "\x1b" not in shown + written
