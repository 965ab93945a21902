"""A sweep over a search space: every point a trial, chosen among by validation."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recbole_hns.config import DEFAULTS, given_keys
from recbole_hns.errors import JobError, UserError
from recbole_hns.files import plain, writable_directory
from recbole_hns.loss.base import Loss
from recbole_hns.quick_start import AXES
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import sampler_class
from recbole_hns.tuning.budget import seconds_of
from recbole_hns.tuning.cluster import Resources, ray_session
from recbole_hns.tuning.preparation import prepared
from recbole_hns.tuning.record import (
    Record,
    check_trust,
    check_unused,
    damaged,
    is_known,
    locked,
    read_record,
    resuming,
    take_over,
    write_record,
)
from recbole_hns.tuning.report import Report, sweep_pictures, train_again, write_report
from recbole_hns.tuning.search import RECORD as SEARCH
from recbole_hns.tuning.search import search
from recbole_hns.tuning.space import (
    Space,
    Sweep,
    default_space,
    frozen,
    possible_points,
    read_space,
    space_path,
)
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job

if TYPE_CHECKING:
    from ray.tune import ResultGrid

#: In the output directory: what the sweep was started with, which ``resume`` goes on with.
RECORD = "sweep.yaml"

#: There, too: what only a sweep leaves.
RESULTS = ("trials.csv", "trials/*.json", SEARCH)


class SweepRecord(Record):
    """What a sweep was started with; see :class:`recbole_hns.tuning.space.Sweep`."""

    keys: dict[str, Any]
    space: dict[str, Any]
    points: list[dict[str, Any]] = Field(min_length=1)


def tune(
    model: str | type | None = None,
    dataset: str | None = None,
    sampler: str | type[HardNegativeSampler] | None = None,
    params: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    config_file_list: Sequence[str | os.PathLike[str]] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] = "tune",
    resume: bool = False,
    num_samples: int = 1,
    scheduler: Literal["asha", "median"] | None = None,
    max_concurrent: int | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float = 0.0,
    address: str | None = None,
    command_line: Mapping[str, str] | None = None,
    loss: str | type[Loss] | None = None,
    budget: str | float | None = None,
    trials: int | None = None,
    retrain: bool = False,
) -> ResultGrid:
    """Find hyperparameters on Ray Tune, chosen by validation.

    With ``budget`` or ``trials`` Optuna searches the joint space of
    :class:`recbole_hns.tuning.joint.JointSpace`, from the recommended recipes on, and ASHA ends
    hopeless trials. Otherwise every point of a search space is tried.

    A trial is what :func:`recbole_hns.run` does at its point, on data that is read and split once
    for all; its test result is recorded and chooses nothing. A session of Ray that has been started
    before is used, and stays.

    Args:
        model: as in :func:`recbole_hns.run`.
        dataset: as there.
        sampler: as there.
        params: search space, a YAML file or a mapping of its form; default the one that comes with
            the sampler, and with the loss where one is named.
        config_file_list: as there; a parameter of the space goes over them.
        config_dict: as there; a parameter of the space that is given here is not searched.
        output: directory for the page ``report.md``, ``trials.csv``, ``best.yaml``, figures and
            result files; default ``tune``.
        resume: whether to go on with the sweep or the search in ``output``. Its finished trials are
            taken over, those that failed are tried again. What it was started with need not be
            given again; another ``budget`` or number of ``trials`` takes the place of the first.
        num_samples: random points for each point of the grid, where the space has distributions.
        scheduler: ends hopeless trials before their last epoch, untested; default none.
        max_concurrent: trials at a time; default as many as fit.
        cpus_per_trial: CPUs, and threads, of a trial; default 1.
        gpus_per_trial: GPUs of a trial, or the fraction of one; default 0, training on the CPU.
        address: ``HOST:PORT`` of a Ray cluster to join; default none, Ray is started here.
        command_line: as ``config_dict``, over it.
        loss: as in :func:`recbole_hns.run`.
        budget: how long to search: seconds, or such as ``30m`` or ``2h``, of the clock.
        trials: how many to try at most.
        retrain: whether to train the best at last on training and validation part together, and
            leave the checkpoint in ``output/model``.

    Returns:
        Ray's ``ResultGrid``, whose metrics are those of
        :func:`recbole_hns.tuning.trial.outcome`.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
        Interrupted: for Ctrl-C or SIGTERM; what has finished stays, for ``resume``.
        JobError: if Ray fails as a whole; likewise.
    """
    folder = Path(output).absolute()
    named = {"model": model, "dataset": dataset, "sampler": sampler, "loss": loss}
    given = _named(given_keys(config_file_list, config_dict, command_line, **named))
    if given.get("protocol") == "paper":
        allowed = "must be valid: who chooses by the test part has nothing to report"
        raise UserError.of("protocol", "paper", allowed)
    resources = Resources(cpus_per_trial, gpus_per_trial, max_concurrent, address)
    if budget is not None or trials is not None or (resume and (folder / SEARCH).exists()):
        for key, value, default in (
            ("params", params, None),
            ("num_samples", num_samples, 1),
            ("scheduler", scheduler, None),
        ):
            if value != default:
                allowed = "is of a sweep; a search by budget or trials has its own, leave one out"
                raise UserError.of(key, value, allowed)
        seconds = None if budget is None else seconds_of(budget)
        results, report = search(given, named, output, resume, seconds, trials, resources)
    else:
        fixed = given_keys(None, config_dict, command_line, loss=loss)
        results, report = _sweep(
            given, fixed, sampler, params, output, resume, num_samples, scheduler, resources
        )
    if retrain:
        train_again(report, folder)
    return results


def _sweep(
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
    sampler: str | type[HardNegativeSampler] | None,
    params: str | os.PathLike[str] | Mapping[str, Any] | None,
    output: str | os.PathLike[str],
    resume: bool,
    num_samples: int,
    scheduler: Literal["asha", "median"] | None,
    resources: Resources,
) -> tuple[ResultGrid, Report]:
    """Train and test at every point of a search space."""
    folder = Path(output).absolute()
    if resume:
        sweep = _recorded(folder / RECORD, given, fixed, params)
    else:
        check_unused(output, folder / RECORD, *RESULTS)
        sweep = _planned(given, fixed, params, num_samples)
    cls = sampler_class(sweep.keys["sampler"] if sampler is None else sampler)
    job = Job.of(
        keys=sweep.keys,
        samplers={sweep.keys["sampler"]: cls},
        points=sweep.points,
        files=[folder / "trials" / f"{index:03}.json" for index in range(len(sweep.points))],
        resources=resources,
    )
    table = TrialTable(job.points, job.files, folder / "trials.csv")
    if resume:
        take_over(job, table)

    config, splits = prepared(job)

    # Ray takes seconds to import, which a mistake above need not wait for
    from recbole_hns.tuning.trials import every_point, run_trials

    own = {axis: sweep.keys.get(axis) for axis in AXES if not is_known(sweep.keys.get(axis))}
    again = resuming("tune", output, job.resources, scheduler=scheduler, **own)
    with ray_session(job.resources), locked(output, folder):
        writable_directory("output", str(folder / "trials"))
        if not resume:
            check_unused(output, folder / RECORD, *RESULTS)
            record = SweepRecord(keys=sweep.keys, space=sweep.space.content, points=sweep.points)
            write_record(record, folder / RECORD)
        start = time.perf_counter()

        metric = config["valid_metric"].lower()
        draw = functools.partial(sweep_pictures, sweep.space, metric, output=folder)

        def told() -> Report:
            seconds = time.perf_counter() - start
            found = table.typed()
            report = write_report(sweep.keys, sweep.points, config, found, seconds, folder, draw)
            print(report.text)
            return report

        try:
            plan = every_point(job, config, scheduler)
            results = run_trials(job, config, splits, table, again, plan)
        except JobError:
            told()
            raise
        report = told()
    if results.num_errors:
        print(f"to try again what failed: {again}")
    return results, report


def _planned(
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
    params: str | os.PathLike[str] | Mapping[str, Any] | None,
    num_samples: int,
) -> Sweep:
    """A new sweep."""
    keys = {**DEFAULTS, **given}
    space = _space(params, keys, fixed)
    points = possible_points(
        space, sampler_class(keys["sampler"]), keys["model"], keys, num_samples
    )
    return Sweep(keys, space, points)


def _recorded(
    path: Path,
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
    params: str | os.PathLike[str] | Mapping[str, Any] | None,
) -> Sweep:
    """The sweep that a record is of.

    Raises:
        UserError: if there is none, or what is given now differs from it.
    """
    record = read_record(path, SweepRecord)
    keys, space = record.keys, read_space(record.space)
    for key in ("model", "dataset", "sampler"):
        if not isinstance(keys.get(key), str):
            raise damaged(path, f"keys: {key} is missing")
    for index, point in enumerate(record.points):
        if list(point) != space.parameters:
            raise damaged(path, f"points.{index}: is not of the space")
    if len({frozen(point) for point in record.points}) < len(record.points):
        raise damaged(path, "points: one is there twice")
    for key, value in given.items():
        if keys.get(key) != value:
            raise UserError.of(key, value, f"the sweep was started with {keys.get(key)}")
    searched: list[Any] = []
    if params is not None:
        same = _space(params, keys, fixed)
        if same.content != space.content:
            raise UserError.of("params", params, "the sweep was started with another search space")
        searched = same.values("loss")
    losses = [keys.get("loss"), *space.values("loss"), *(p.get("loss") for p in record.points)]
    check_trust(path, [keys["sampler"], *losses], [*map(given.get, AXES), *searched])
    return Sweep(keys, space, record.points)


def _space(
    params: str | os.PathLike[str] | Mapping[str, Any] | None,
    keys: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> Space:
    if params is None:
        return read_space(default_space(keys["sampler"], keys.get("loss")), fixed)
    return read_space(params if isinstance(params, Mapping) else space_path(params), fixed)


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Config keys as plain data, classes by their names."""
    named = dict(given)
    if isinstance(named.get("model"), type):
        named["model"] = named["model"].__name__
    for axis, registered in AXES.items():
        cls: Any = named.get(axis)
        if isinstance(cls, type) and issubclass(cls, (HardNegativeSampler, Loss)):
            known = registered.get(cls.name) is cls
            named[axis] = cls.name if known else f"{cls.__module__}:{cls.__qualname__}"
    return plain(named)
