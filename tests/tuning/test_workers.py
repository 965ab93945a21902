"""Workers of Ray: one that is killed, one that alone raises an error, and their GPUs."""

import sys
import threading
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import QUIET, environment

from recbole_hns import UserError, quick_start, run
from recbole_hns.ops import workers as group
from recbole_hns.results import read_run
from recbole_hns.tuning import workers
from recbole_hns.tuning.ray_names import ray

THEIRS = """
import os, signal, time
from pathlib import Path
from recbole_hns import UserError
from recbole_hns.ops import workers
from recbole_hns.sampler import SAMPLERS

class Odd(SAMPLERS["dns"]):
    def start_epoch(self, epoch, encoded, pool):
        if workers.rank() == 1 and epoch == 1 and not Path("killed").exists():
            Path("killed").touch()
            time.sleep(2)  # the newer Ray takes note of a checkpoint while training goes on
            os.kill(os.getpid(), signal.SIGKILL)
        if workers.rank() == 1 and epoch == 2:
            raise UserError("not on this machine")
"""


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Two CPUs, and a sampler whose second worker is killed in epoch 2 and fails in 3."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{environment()['PYTHONPATH']}:{tmp_path}")
    # on a busy machine processes of Ray's own niceness come late
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_one_killed_is_replaced_and_an_error_of_one_ends_all_in_its_line(toy, session, capfd):
    keys = {**QUIET, **toy, "state": "INFO", "embedding_size": 4}
    alone = run(sampler="dns", config_dict={**keys, "epochs": 2}, saved=False)
    capfd.readouterr()
    with pytest.raises(UserError, match=r"^not on this machine$"):
        run(
            sampler="theirs:Odd",
            config_dict={**keys, "epochs": 3},
            num_workers=2,
            max_failures=1,
        )
    told = capfd.readouterr().err
    assert "Resume training after 1 epochs" in told
    (file,) = workers.Path("saved").glob("*.json")
    found = [epoch.train_loss for epoch in read_run(file).epochs]
    np.testing.assert_allclose(found, [each["train_loss"] for each in alone.epochs], rtol=1e-6)


def test_a_callback_that_cannot_be_sent(toy):
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"^callbacks: cannot be sent to workers: cannot pickle"):
        run(config_dict={**QUIET, **toy}, num_workers=2, callbacks=[lambda trainer: lock.locked()])


class Mailbox(workers.Mailbox):
    """One in this process, whose methods are called as those of an actor."""

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        return SimpleNamespace(remote=found) if name in ("log", "end", "ended") else found


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Call :func:`train_worker` in this process; returns what it tells the driver."""

    def call(error):
        def fail(**arguments):
            raise error

        monkeypatch.setattr(quick_start, "_run", fail)
        monkeypatch.setattr(workers.ray, "get", lambda value: value)
        monkeypatch.setattr(workers.train, "get_checkpoint", lambda: None)
        monkeypatch.setattr(sys, "path", [*sys.path])
        mailbox = Mailbox()
        settings = {
            "mailbox": mailbox,
            "folder": str(tmp_path),
            "resources": workers.Resources(),
            "arguments": {"config_dict": None, "command_line": None, "callbacks": []},
        }
        with suppress(type(error)):
            workers.train_worker(settings)
        # new ones, which Ray starts after an error, have nothing left to do
        told = mailbox.ended.remote()
        if told != (None, None):
            workers.train_worker(settings)
        return told[1]

    return call


def test_an_error_ends_the_run_with_its_traceback(worker):
    told = worker(ZeroDivisionError("division by zero"))
    assert type(told) is RuntimeError
    assert str(told).startswith("a worker failed:\nTraceback (most recent call last):")
    assert str(told).endswith("ZeroDivisionError: division by zero\n")


def test_the_loss_of_another_is_left_to_ray(worker):
    assert (
        worker(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")) is None
    )
    assert worker(group.dist.DistNetworkError("the client socket has timed out")) is None


def test_what_the_first_tells_is_told_once(worker):
    error = UserError("data_path=x: cannot be read")
    error.told = error.of_all = True
    assert worker(error) is None
    error.told = False
    told = worker(error)
    assert (type(told), str(told)) == (UserError, "data_path=x: cannot be read")


@pytest.mark.parametrize(("gpus", "keys"), [(0, (False, "")), (1, (True, "3"))])
def test_a_worker_has_the_gpus_that_ray_gives_it(gpus, keys, monkeypatch, tmp_path):
    runs = []
    mailbox = SimpleNamespace(ended=SimpleNamespace(remote=lambda: (None, None)))
    mailbox.end = SimpleNamespace(remote=lambda result, text: None)
    monkeypatch.setattr(workers, "ray", SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(workers.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(workers.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(
        quick_start, "_run", lambda **given: (runs.append(given), given["report"]("table"))
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    arguments = {
        "config_dict": {"epochs": 2, "gpu_id": "0"},
        "command_line": {"gpu_id": "0,1", "use_gpu": "True", "seed": "1"},
        "callbacks": [],
    }
    workers.train_worker(
        {
            "arguments": arguments,
            "mailbox": mailbox,
            "folder": str(tmp_path),
            "resources": workers.Resources(1, gpus),
        }
    )
    (given,) = runs
    assert given["config_dict"] == {"epochs": 2, "use_gpu": keys[0], "gpu_id": keys[1]}
    assert given["command_line"] == {"seed": "1"}
