"""The Ray session: clusters that are waited for, signals, and a Ray that has died."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from recbole_hns.errors import Interrupted, JobError, UserError
from recbole_hns.tuning import cluster, ray_names
from recbole_hns.tuning.cluster import Resources


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_busy_cluster_is_waited_for(address, monkeypatch, capsys):
    answers = iter([1, None, 1, 0])

    def ask(command, timeout, **more):
        answer = next(answers)
        if answer is None:
            raise subprocess.TimeoutExpired(command, timeout)
        if answer:
            raise subprocess.CalledProcessError(answer, command)

    monkeypatch.setattr(cluster.subprocess, "run", ask)
    monkeypatch.setattr(cluster, "AGAIN_SECONDS", 0)
    cluster.check_address(address)
    assert next(answers, "all asked") == "all asked"
    told = f"address={address}: waiting up to 300 s for the Ray cluster there to answer\n"
    assert capsys.readouterr().err == told


def test_a_cluster_that_asks_for_a_token(address, monkeypatch):
    def ask(command, **more):
        error = b"ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken"
        raise subprocess.CalledProcessError(1, command, stderr=error)

    monkeypatch.setattr(cluster.subprocess, "run", ask)
    with pytest.raises(UserError, match=r"asks for the token in .*, with RAY_AUTH_MODE=token"):
        cluster.check_address(address)


def test_not_for_ever(address, monkeypatch):
    monkeypatch.setattr(cluster, "HEALTH_SECONDS", 0)
    monkeypatch.setattr(cluster, "AGAIN_SECONDS", 0.1)
    with pytest.raises(UserError, match="no Ray cluster answered there within 0 s"):
        cluster.check_address(address)


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of a node with CPUs, one with GPUs and one that was lost."""
    has = ({"CPU": 7.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 64.0, "GPU": 8.0})
    found = [{"Alive": has_it["CPU"] < 64, "Resources": has_it} for has_it in has]
    monkeypatch.setattr(ray_names.ray, "nodes", lambda: found)


@pytest.mark.parametrize(
    ("resources", "trials"),
    [
        (Resources(1), 9),
        (Resources(3), 2),
        (Resources(1, 0.5), 2),
        (Resources(1, 0.1), 2),
        (Resources(2, 0.1), 1),
        (Resources(1, max_concurrent=4), 4),
    ],
)
def test_so_many_trials_fit_on_the_nodes(nodes, resources, trials):
    cluster._check_fit(resources)
    assert cluster.fitting(resources) == trials


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (Resources(8), "cpus_per_trial=8: must be <= 7, the CPUs of the largest node"),
        (Resources(1, 2), "gpus_per_trial=2: must be <= 1, the GPUs of the largest node"),
        (Resources(4, 1), "gpus_per_trial=1: must be <= 0, the GPUs of the largest node"),
    ],
)
def test_a_trial_that_fits_on_no_node_is_refused(nodes, resources, told):
    with pytest.raises(UserError) as caught:
        cluster._check_fit(resources)
    assert str(caught.value) == told


def terminated_in_ray():
    """As within Ray: it has set a handler of its own, and turns what ours raises into Ctrl-C's."""
    with cluster._signals() as take_over:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        take_over()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("2 trials") from None


def test_sigterm_and_ctrl_c_end_with_what_is_said():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, cluster._signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (str(caught.value), caught.value.status) == ("terminated", 143)
    with pytest.raises(Interrupted) as caught:
        terminated_in_ray()
    assert (str(caught.value), caught.value.status) == ("terminated; 2 trials", 143)
    with pytest.raises(Interrupted) as caught, cluster._signals():
        raise KeyboardInterrupt
    assert (str(caught.value), caught.value.status) == ("interrupted", 130)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_dead_raylet_is_seen():
    watch = cluster.NodeWatch()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch._raylets = [psutil.Process(process.pid)]
    watch.check()
    process.kill()
    # before and after its exit status is asked for
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(JobError, match="raylet, has died"):
        watch.check()
    process.communicate()
    with pytest.raises(JobError, match="raylet, has died"):
        watch.check()


def test_tune_takes_a_trial_out_of_memory_for_one_whose_process_died():
    errors = ray_names.ray.exceptions
    for module in (ray_names.actor_manager, ray_names.tune_controller):
        assert isinstance(errors.OutOfMemoryError("killed"), module.RayActorError)
        assert issubclass(errors.RayActorError, module.RayActorError)
        assert not issubclass(errors.RayTaskError, module.RayActorError)
