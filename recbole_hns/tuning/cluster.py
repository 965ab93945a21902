"""The Ray session that trials run in: the caller's, a cluster's, or one of this machine alone."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recbole_hns.errors import UserError

#: Seconds that a cluster may take to accept a connection, and to say that it is well.
CONNECT_SECONDS, HEALTH_SECONDS = 5, 20


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
        UserError: if none does.
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
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=HEALTH_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise UserError.of("address", address, "no Ray cluster answers there") from None


@contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Within it, Ray runs: the caller's session where there is one, else one that ends with it.

    Raises:
        UserError: if the cluster cannot be joined, or has no node that a trial fits on.
    """
    from recbole_hns.tuning.ray_names import ray

    if ray.is_initialized():
        _check_fit(resources)
        yield
        return
    # what fails is reported in the trial's row
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if resources.address is None:
        # Ray leaves it alone where it is set, and its processes take it from here
        with _environment("OMP_NUM_THREADS", str(resources.cpus_per_trial)):
            ray.init(address="local", include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=resources.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError.of(
                "address", resources.address, f"cannot be joined: {error}"
            ) from error
    try:
        _check_fit(resources)
        yield
    finally:
        ray.shutdown()


def _check_fit(resources: Resources) -> None:
    """Refuse trials that no node is large enough for; Ray would wait for one to come."""
    from recbole_hns.tuning.ray_names import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        wanted = getattr(resources, key)
        most = max(node.get(name, 0) for node in nodes)
        if wanted > most:
            raise UserError.of(key, wanted, f"must be <= {most:g}, the {name}s of the largest node")


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
