"""The Ray session that trials run in: the caller's, a cluster's, or one of this machine alone."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from recbole_hns.errors import Interrupted, JobError, UserError

#: Seconds that a cluster may take to accept a connection, and, however busy, to say that it is
#: well; and between two questions.
CONNECT_SECONDS, HEALTH_SECONDS, AGAIN_SECONDS = 5, 300, 2


@dataclass(frozen=True)
class Resources:
    """What trials may use.

    Attributes:
        cpus_per_trial: CPUs, and threads, of a trial.
        gpus_per_trial: GPUs of a trial, or the fraction of one; 0 trains on the CPU.
        max_concurrent: trials at a time; None is as many as fit.
        address: ``HOST:PORT`` of a Ray cluster; None starts Ray on this machine.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    max_concurrent: int | None = None
    address: str | None = None

    @property
    def of_trial(self) -> dict[str, float]:
        """The same for Ray."""
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}


def check_address(address: str) -> None:
    """See that a Ray cluster answers at ``HOST:PORT``; Ray itself would try for minutes.

    Raises:
        UserError: if none does, or it asks for a token that is not there.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        allowed = "must be HOST:PORT of a Ray cluster, as `ray start --head` prints it"
        raise UserError.of("address", address, allowed)
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError.of("address", address, f"cannot be reached: {error}") from None
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    end = time.monotonic() + HEALTH_SECONDS
    told = False
    while True:
        try:
            left = max(AGAIN_SECONDS, end - time.monotonic())
            subprocess.run(command, capture_output=True, check=True, timeout=left)
            return
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            if b"AuthenticationError" in (error.stderr or b""):
                token = "the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
                allowed = f"the Ray cluster there asks for {token}, with RAY_AUTH_MODE=token"
                raise UserError.of("address", address, allowed) from None
            # a busy cluster does not answer within the time that Ray gives it
            if time.monotonic() >= end:
                allowed = f"no Ray cluster answered there within {HEALTH_SECONDS} s"
                raise UserError.of("address", address, allowed) from None
        if not told:
            wait = f"waiting up to {HEALTH_SECONDS} s for the Ray cluster there to answer"
            print(f"address={address}: {wait}", file=sys.stderr, flush=True)
            told = True
        time.sleep(AGAIN_SECONDS)


@contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Within it, Ray runs: the caller's session where there is one, else one that ends with it.

    Raises:
        UserError: if the cluster cannot be joined, or has no node that a trial fits on.
        Interrupted: for Ctrl-C and SIGTERM.
    """
    from recbole_hns.tuning.ray_names import ray

    ours = not ray.is_initialized()
    with _signals() as take_over:
        try:
            if ours:
                _start(resources)
            take_over()
            _check_fit(resources)
            yield
        finally:
            if ours:
                ray.shutdown()


def _start(resources: Resources) -> None:
    from recbole_hns.tuning.ray_names import ray

    # what fails is reported in the trial's row
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if resources.address is None:
        # Ray leaves it alone where it is set, and its processes take it from here
        with _environment("OMP_NUM_THREADS", str(resources.cpus_per_trial)):
            ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=resources.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError.of("address", resources.address, f"cannot be joined: {error}") from error


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """Have SIGTERM end the body as Ctrl-C does, both as ``Interrupted``.

    Yields:
        What makes this the handler again: Ray, when it starts, puts one of its own there, which
        prints a trace and aborts.
    """
    received = []

    def end(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def take_over() -> None:
        # Python lets no other thread set it
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, end)

    before = signal.getsignal(signal.SIGTERM)
    take_over()
    try:
        yield take_over
    except KeyboardInterrupt as error:
        how, status = ("terminated", 143) if received else ("interrupted", 130)
        raise Interrupted("; ".join(filter(None, (how, str(error)))), status) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class NodeWatch:
    """Tells when the process that does Ray's work on this machine has died.

    Tune would wait for ever for the next trial to start. Only this process's own can be seen.
    """

    def __init__(self) -> None:
        children = psutil.Process().children()
        self._raylets = [child for child in children if child.name() == "raylet"]

    def check(self) -> None:
        """Raise :class:`recbole_hns.errors.JobError` if it has."""
        for raylet in self._raylets:
            if not raylet.is_running() or raylet.status() == psutil.STATUS_ZOMBIE:
                raise JobError("Ray's node process, raylet, has died")


def _check_fit(resources: Resources) -> None:
    """Refuse trials that no node is large enough for; Ray would wait for one to come."""
    nodes = _nodes()
    for name, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        wanted = getattr(resources, key)
        most = max(node.get(name, 0) for node in nodes)
        if wanted > most:
            raise UserError.of(key, wanted, f"must be <= {most:g}, the {name}s of the largest node")
        nodes = [node for node in nodes if node.get(name, 0) >= wanted]


def fitting(resources: Resources) -> int:
    """How many trials may be at work at a time in the Ray session."""
    return resources.max_concurrent or max(1, room(resources))


def room(resources: Resources) -> int:
    """How many trials the nodes of the Ray session have room for."""
    wanted = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    return sum(
        int(min(node.get(name, 0) / each for name, each in wanted.items() if each))
        for node in _nodes()
    )


def _nodes() -> list[dict[str, float]]:
    """What each node has."""
    from recbole_hns.tuning.ray_names import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
