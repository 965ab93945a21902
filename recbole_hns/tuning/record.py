"""What a job keeps of itself in its directory, so that no other job's results mix with its own.

A record says what was asked for, and is there before the first trial; a lock is held while a
process works there; a result file is taken over if its config is the one that its trial would have.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError
from recbole_hns.files import writable_directory, write_yaml
from recbole_hns.quick_start import AXES
from recbole_hns.results import as_json
from recbole_hns.tuning.cluster import Resources
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job, finished_result, outcome

#: In the directory: held by the process that works there, left when it ends however it ends.
LOCK = ".lock"

#: Keys that say where a trial works and how it is watched, not what it does.
PLACES = frozenset(
    {
        *("checkpoint_dir", "device", "use_gpu", "gpu_id", "worker", "state", "show_progress"),
        *("log_wandb", "wandb_project"),
    }
)


class Record(BaseModel):
    """What a job was started with."""

    model_config = ConfigDict(strict=True, extra="forbid")


RecordClass = TypeVar("RecordClass", bound=Record)


def read_record(path: Path, cls: type[RecordClass]) -> RecordClass:
    """Read the record of a job that is to be resumed.

    Raises:
        UserError: if there is none, or it holds something else.
    """
    kind = path.stem
    if not path.exists():
        raise UserError.of("output", path.parent, f"holds no {kind} that could be resumed")
    try:
        return cls.model_validate(read_yaml(path, key="output"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{place}: {first['msg']}") from None


def damaged(path: Path, reason: str) -> UserError:
    """The error for a record that cannot be gone on with."""
    return UserError.of("output", path, f"is damaged, and cannot be resumed from ({reason})")


def is_known(name: Any) -> bool:
    """Whether a sampler's or a loss's name is one of this package's, or none."""
    return name is None or any(name in list(known) for known in AXES.values())


def check_trust(path: Path, named: Iterable[Any], trusted: Iterable[Any]) -> None:
    """See that a user's own samplers and losses in a record are named by the user too.

    Args:
        path: of the record.
        named: what it names as samplers and losses.
        trusted: what the user names now.

    Raises:
        UserError: for one that is not; importing what a file names would run its code.
    """
    trusted = list(trusted)
    for name in named:
        if is_known(name) or name in trusted:
            continue
        allowed = f"names {name}, which is not one of this package's; name it on the command line "
        raise UserError.of("output", path, f"{allowed}too, to trust it")


def check_unused(output: Any, path: Path, *results: str) -> None:
    """See that a new job finds no other's results.

    Args:
        output: the directory, as the user gave it.
        path: of the record.
        results: what names the results in the directory, with wildcards.

    Raises:
        UserError: if it does.
    """
    if path.exists():
        kind = path.stem
        allowed = f"holds a {kind} already; --resume goes on with it, or name another directory"
        raise UserError.of("output", output, allowed)
    for pattern in results:
        for file in path.parent.glob(pattern):
            where = file.relative_to(path.parent)
            allowed = f"holds results, {where}, without {path.name}; name another directory"
            raise UserError.of("output", output, allowed)


@contextmanager
def locked(output: Any, folder: Path) -> Iterator[None]:
    """Hold the lock of a directory, which the operating system releases if the process is killed.

    Raises:
        UserError: if another process holds it, or the directory cannot be written to.
    """
    writable_directory("output", str(folder))
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        allowed = "another process is at work there; wait for its end, or name another directory"
        raise UserError.of("output", output, allowed) from None
    try:
        yield
    finally:
        lock.release()


def resuming(command: str, output: Any, resources: Resources, **options: Any) -> str:
    """The command line that goes on with a job.

    Args:
        command: ``tune`` or ``compare``.
        output: the directory.
        resources: what trials may use.
        **options: further ones, left out where None.
    """
    default = Resources()
    given = {key: value for key, value in vars(resources).items() if value != getattr(default, key)}
    given.update({key: value for key, value in options.items() if value is not None})
    arguments = [f"--{key}={value}" for key, value in given.items()]
    return shlex.join(["recbole-hns", command, f"--output={output}", *arguments, "--resume"])


def write_record(record: Record, path: Path) -> None:
    """Write the record of a new job."""
    write_yaml(record.model_dump(), path)


def take_over(job: Job, table: TrialTable) -> None:
    """Fill the rows of the trials that have finished before.

    Raises:
        UserError: if a result file is of a run with another config.
    """
    for point, file in zip(job.points, job.files, strict=True):
        run = finished_result(file)
        if run is not None:
            check_same(file, run.config, as_json(job.recorded(point)))
            table.put(point, {**outcome(run), "finished": True}, None)


def check_same(file: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """See that a result file is of a run with a config, wherever it ran.

    Raises:
        UserError: if it is not.
    """
    for key, value in expected.items():
        if key == "data_path" and not os.path.exists(str(found.get(key))):
            continue  # the data may have been moved
        if key not in PLACES and found.get(key, value) != value:
            allowed = f"is of a run with {key}={found[key]}, not {value}; name another directory"
            raise UserError.of("output", file, allowed)
