"""One training on several workers, which Ray Train starts, and replaces where they are lost."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbole_hns import quick_start
from recbole_hns.config import given_keys
from recbole_hns.errors import JobError, UserError
from recbole_hns.files import replace_file
from recbole_hns.ops import workers
from recbole_hns.recommendation import RunResult
from recbole_hns.training.log import without_colours
from recbole_hns.tuning.cluster import Resources, check_address, ray_session, room
from recbole_hns.tuning.ray_names import ray, ray_train

if TYPE_CHECKING:
    from recbole_hns.training.trainer import EpochEnd

train = ray_train()

#: The folder of Ray's own code.
OF_RAY = str(Path(ray.__file__).parent)

#: Seconds between two looks for what the first worker logs.
LOG_SECONDS = 1.0


def run_on_workers(
    arguments: Mapping[str, Any],
    num_workers: int,
    address: str | None,
    cpus_per_worker: int,
    gpus_per_worker: float,
    max_failures: int,
) -> RunResult:
    """:func:`recbole_hns.quick_start.run` on several workers, in a Ray session.

    Args:
        arguments: what it is given, but for what follows.
        num_workers: see there, as the others.
        address: see there.
        cpus_per_worker: see there.
        gpus_per_worker: see there.
        max_failures: see there.

    Raises:
        UserError: for a value that is not allowed, data that cannot be used, or workers that do not
            fit on the cluster.
        JobError: if workers were lost more often than ``max_failures``.
    """
    report: Callable[[str], object] = arguments["report"] or print
    try:
        ray.cloudpickle.dumps(arguments["callbacks"])
    except Exception as error:  # whatever theirs raise
        raise UserError(f"callbacks: cannot be sent to workers: {error}") from error
    if address is not None:
        check_address(address)
    resources = Resources(cpus_per_worker, gpus_per_worker, None, address)
    try:
        with ray_session(resources):
            if num_workers > room(resources):
                allowed = f"must be <= {room(resources)}, which the cluster has room for"
                raise UserError.of("num_workers", num_workers, allowed)
            return _train(arguments, num_workers, resources, max_failures, report)
    except UserError as error:
        raise UserError(str(error).replace("_per_trial", "_per_worker")) from None


def _train(
    arguments: Mapping[str, Any],
    num_workers: int,
    resources: Resources,
    max_failures: int,
    report: Callable[[str], object],
) -> RunResult:
    here = ray.get_runtime_context().get_node_id()
    stays = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    # beside the driver, so that no lost node takes it along
    mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=stays).remote()
    settings = {
        "arguments": {**arguments, "report": None},
        "mailbox": mailbox,
        "folder": os.getcwd(),
        "resources": resources,
    }
    of_worker: dict[str, float] = {"CPU": resources.cpus_per_trial}
    if resources.gpus_per_trial:
        of_worker["GPU"] = resources.gpus_per_trial
    with tempfile.TemporaryDirectory(prefix="recbole-hns-") as folder:
        # another machine sees the directory of the checkpoints, if anything of this one's
        lists = (arguments[name] for name in ("config_file_list", "config_dict", "command_line"))
        keys = given_keys(*lists)
        kept = Path(keys.get("checkpoint_dir", folder) if resources.address else folder).absolute()
        # Ray would go on with another run of the same name
        name = f"ray-train-{secrets.token_hex(3)}"
        trainer = train.TorchTrainer(
            train_worker,
            train_loop_config=settings,
            scaling_config=train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=bool(resources.gpus_per_trial),
                resources_per_worker=of_worker,
                **train.scaling,
            ),
            run_config=train.RunConfig(
                name=name,
                storage_path=str(kept),
                failure_config=train.FailureConfig(max_failures=max_failures),
                checkpoint_config=train.CheckpointConfig(num_to_keep=1),
                **train.running,
            ),
        )
        with _followed(mailbox):
            failed: Exception | None = None
            try:
                failed = trainer.fit().error
            except Exception as error:
                failed = error
            finally:
                shutil.rmtree(kept / name, ignore_errors=True)
        result, told = ray.get(mailbox.ended.remote())
    if told is not None:
        raise told
    if result is None:
        # the whole traceback may be the message
        cause = getattr(failed, "__cause__", None) or failed
        reason = str(cause).strip().rpartition("\n")[2]
        lost = f"workers were lost more often than max_failures={max_failures}: {reason}"
        raise JobError(f"{lost}; --resume=CHECKPOINT goes on after the last completed epoch")
    result, table = result
    report(table)
    for callback in arguments["callbacks"]:
        if hasattr(callback, "finish"):
            callback.finish(result)
    return result


def train_worker(settings: Mapping[str, Any]) -> None:
    """What each worker does; after another one was lost, it goes on from Ray's checkpoint."""
    mailbox, resources = settings["mailbox"], settings["resources"]
    # the former workers came to an end
    if ray.get(mailbox.ended.remote()) != (None, None):
        return
    with suppress(OSError):  # another machine may not have it
        os.chdir(settings["folder"])
    sys.path.insert(0, settings["folder"])
    torch.set_num_threads(resources.cpus_per_trial)
    # Ray has set which GPUs are the worker's; RecBole would set the variable to its gpu_id
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if resources.gpus_per_trial else ""
    arguments = dict(settings["arguments"])
    keys = {"use_gpu": bool(gpus), "gpu_id": gpus}
    arguments["config_dict"] = {**(arguments["config_dict"] or {}), **keys}
    line = arguments["command_line"] or {}
    arguments["command_line"] = {key: line[key] for key in line if key not in keys}
    tables: list[str] = []
    arguments["report"] = tables.append
    arguments["callbacks"] = [*map(_Unfinished, arguments["callbacks"]), ReportToRay()]
    with _sent(mailbox), tempfile.TemporaryDirectory() as folder:
        checkpoint = train.get_checkpoint()
        try:
            if checkpoint is not None:
                checkpoint.to_directory(folder)
                arguments["resume"] = _put_back(Path(folder))
            result = quick_start._run(**arguments)
        except UserError as error:
            if not error.told:
                ray.get(mailbox.end.remote(None, UserError(error)))
            if error.of_all:
                return
            raise  # the others may wait for this one; Ray ends them, and no new ones train
        except Exception as error:
            # anew, it would come again
            if not workers.tells_of_loss(error):
                failure = RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
                ray.get(mailbox.end.remote(None, failure))
            raise
        if workers.first():
            ray.get(mailbox.end.remote((result, tables[0]), None))


class ReportToRay:
    """At the end of every epoch has Ray Train keep the first worker's checkpoint."""

    every_worker = True

    def __call__(self, end: EpochEnd) -> None:
        """Report, which all workers do."""
        metrics = {"epoch": end.epochs}
        file = Path(end.trainer.saved_model_file)
        if not workers.of_first(file.exists()):
            train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            if workers.first():
                shutil.copy(file, folder)
                (Path(folder) / PLACE).write_text(str(file.absolute()), encoding="utf-8")
            # Ray keeps all that workers report together, or the first's
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


#: The file of Ray's checkpoint that says where the run's own is.
PLACE = "place.txt"


def _put_back(folder: Path) -> Path:
    """The checkpoint to go on from: the first worker's where it was, which it then replaces."""
    place = Path((folder / PLACE).read_text(encoding="utf-8"))
    if not workers.first():
        return folder / place.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with (folder / place.name).open("rb") as kept:
        replace_file(place, lambda file: shutil.copyfileobj(kept, file))
    return place


class _Unfinished:
    """A callback whose ``finish`` the driver calls."""

    def __init__(self, callback: Callable[..., object]) -> None:
        self._callback = callback

    def __call__(self, end: EpochEnd) -> None:
        self._callback(end)


class Mailbox:
    """An actor that holds what the first worker logs and comes to."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._result: Any = None
        self._error: Exception | None = None

    def log(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def lines(self) -> list[str]:
        """The lines since it was last asked."""
        lines, self._lines = self._lines, []
        return lines

    def end(self, result: Any, error: Exception | None) -> None:
        """Take a result, or what the run fails with."""
        self._result, self._error = result, self._error or error

    def ended(self) -> tuple[Any, Exception | None]:
        """What :meth:`end` was given, of several errors the first."""
        return self._result, self._error


@contextmanager
def _sent(mailbox: Any) -> Iterator[None]:
    """Have the first worker's log go to the driver too."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            mailbox.log.remote(self.format(record))

    sender = Sender()
    without_colours(sender)
    # what Ray reports is not the run's log; not all of its loggers are named after it
    sender.addFilter(lambda record: not record.pathname.startswith(OF_RAY))
    root = getLogger()
    if workers.first():
        root.addHandler(sender)
    try:
        yield
    finally:
        root.removeHandler(sender)


@contextmanager
def _followed(mailbox: Any) -> Iterator[None]:
    """Print what the first worker logs, on stderr."""
    done = threading.Event()

    def follow() -> None:
        while True:
            last = done.is_set()
            try:
                lines = ray.get(mailbox.lines.remote())
            except ray.exceptions.RayActorError:  # Ray was shut down
                return
            for line in lines:
                print(line, file=sys.stderr, flush=True)
            if last:
                return
            done.wait(LOG_SECONDS)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
