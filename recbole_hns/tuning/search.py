"""A search of the joint space for a time, or a number of trials, by Optuna on Ray."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recbole_hns.config import DEFAULTS, Config
from recbole_hns.data.preparation import Split
from recbole_hns.errors import JobError, UserError
from recbole_hns.files import writable_directory
from recbole_hns.quick_start import AXES
from recbole_hns.results import as_json, read_run
from recbole_hns.tuning.cluster import Resources, ray_session
from recbole_hns.tuning.joint import MODEL, Facts, JointSpace, recipes, schedule
from recbole_hns.tuning.preparation import prepared
from recbole_hns.tuning.record import (
    Record,
    check_same,
    check_trust,
    check_unused,
    damaged,
    is_known,
    locked,
    read_record,
    resuming,
    write_record,
)
from recbole_hns.tuning.report import Report, parameters_of, search_pictures, write_report
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job, outcome

if TYPE_CHECKING:
    from ray.tune import ResultGrid

    from recbole_hns.tuning.trials import Plan

#: In the output directory: what the search was started with and has suggested, which ``resume``
#: goes on with.
RECORD = "search.yaml"

#: There, too: what only a search or a sweep leaves.
RESULTS = ("trials.csv", "trials/*.json", "sweep.yaml")


class Suggested(BaseModel):
    """A trial of a search.

    Attributes:
        params: as :class:`recbole_hns.tuning.joint.JointSpace` names them.
        status: how it ended; ``cut`` if the budget ended it, ``waiting`` if nothing has.
        seconds: of the search, after which it did.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    params: dict[str, Any]
    status: Annotated[str, Field(pattern="^(waiting|finished|stopped|failed|cut)$")] = "waiting"
    seconds: NonNegativeFloat | None = None


class SearchRecord(Record):
    """What a search was started with, and what it has suggested.

    Attributes:
        keys: config keys of all trials.
        budget: seconds; None without a limit.
        trials: how many; None without a limit.
        facts: of the data.
        suggested: the trials, in order.
    """

    keys: dict[str, Any]
    budget: PositiveFloat | None
    trials: PositiveInt | None
    facts: dict[str, PositiveInt]
    suggested: list[Suggested]


def search(
    given: Mapping[str, Any],
    classes: Mapping[str, Any],
    output: str | os.PathLike[str],
    resume: bool,
    budget: float | None,
    trials: int | None,
    resources: Resources,
) -> tuple[ResultGrid, Report]:
    """Search the joint space, from the recommended recipes on, for a time or a number of trials.

    Args:
        given: config keys of all trials, which are not searched, as plain data.
        classes: the user's own ``sampler`` and ``loss`` where they were given as classes.
        output: directory for what it leaves.
        resume: whether to go on with the search in ``output``; its ended trials are not trained
            again, but told to Optuna and ASHA.
        budget: seconds; default, of a search that is resumed, what it had.
        trials: how many; likewise.
        resources: what trials may use.

    Returns:
        Ray's ``ResultGrid``, and what was reported.

    Raises:
        UserError: for a value that is not allowed, or data that cannot be used.
        Interrupted: for Ctrl-C or SIGTERM; what has ended stays, for ``resume``.
        JobError: if Ray fails as a whole; likewise.
    """
    folder = Path(output).absolute()
    path = folder / RECORD
    if resume:
        record = _recorded(path, given, budget, trials)
    else:
        check_unused(output, path, *RESULTS)
        keys = {"model": MODEL, "dataset": DEFAULTS["dataset"], **given}
        record = SearchRecord(keys=keys, budget=budget, trials=trials, facts={}, suggested=[])
    # what can be refused before the data are read
    JointSpace(record.keys["model"], record.keys, Facts(1, 1, 1))
    own = {axis: cls for axis, cls in classes.items() if isinstance(cls, type)}

    job = _job(record.keys, own, resources)
    config, splits = prepared(job)
    facts = _facts(next(iter(splits.values())))
    if resume and record.facts != facts._asdict():
        raise UserError.of("dataset", config["dataset"], "has changed since the search was started")
    record.facts = facts._asdict()

    # Ray and Optuna take seconds to import, which a mistake above need not wait for
    from recbole_hns.tuning.trials import run_trials

    keys = {**record.keys, **schedule(facts, record.keys)}
    job = _job(keys, own, resources)
    space = JointSpace(keys["model"], keys, facts)
    progress = Progress(
        record, path, TrialTable([], [], folder / "trials.csv", grows=True), resources
    )
    progress.take_over(space, job)
    again = resuming("tune", output, resources, **_own_classes(record.keys))
    with ray_session(resources), locked(output, folder):
        writable_directory("output", str(folder / "trials"))
        if not resume:
            check_unused(output, path, *RESULTS)
        write_record(record, path)
        plan = progress.plan(space, config, keys["epochs"])
        try:
            results = run_trials(job, config, splits, progress.table, again, plan, progress.update)
        except JobError:
            print(progress.report(keys, config).text)
            raise
        report = progress.report(keys, config)
        print(report.text)
    if results.num_errors:
        print(f"to try again what failed: {again}")
    return results, report


class Progress:
    """Keeps the record of a search as its table is kept: by what is suggested, and by what ends.

    Args:
        record: the record.
        path: its file.
        table: the table, without trials.
        resources: of a trial.
    """

    def __init__(
        self, record: SearchRecord, path: Path, table: TrialTable, resources: Resources
    ) -> None:
        self.table = table
        self._record, self._path, self._resources = record, path, resources
        self._before = max((each.seconds or 0.0 for each in record.suggested), default=0.0)
        self._start = time.monotonic()

    @property
    def _left(self) -> float | None:
        """Seconds; None without a limit."""
        budget = self._record.budget
        return None if budget is None else max(0.0, budget - self._before)

    def take_over(self, space: JointSpace, job: Job) -> None:
        """Fill the table with the trials that were suggested before the search was interrupted.

        Those that failed are tried again, and if there is time left, those that the budget cut.

        Raises:
            UserError: if the record has something else than the space suggests, or a result file
                is of a run with another config.
        """
        from optuna.trial import FixedTrial

        from recbole_hns.tuning.suggest import NUMBER, result_file

        again = {"failed"} if self._left == 0 else {"failed", "cut"}
        for number, suggested in enumerate(self._record.suggested):
            try:
                point = space(FixedTrial(suggested.params))
            except (ValueError, TypeError) as error:
                raise damaged(self._path, f"suggested.{number}: {error}") from None
            numbered = {NUMBER: number, **point}
            file = result_file(self._path.parent / "trials", number)
            self.table.add(numbered, file)
            if suggested.status in again:
                suggested.status, suggested.seconds = "waiting", None
            if suggested.status == "cut" and not file.is_file():  # before its first evaluation
                self.table.put(numbered, {}, None)
            elif suggested.status != "waiting":
                run = read_run(file)
                check_same(file, run.config, as_json(job.recorded(point)))
                finished = suggested.status == "finished"
                self.table.put(numbered, {**outcome(run), "finished": finished}, None)

    def plan(self, space: JointSpace, config: Config, epochs: int) -> Plan:
        """The plan of what is left of the search."""
        from recbole_hns.tuning.cluster import fitting
        from recbole_hns.tuning.suggest import Asha, Suggester, train_suggested
        from recbole_hns.tuning.trials import Plan

        starts = recipes(space)
        known = [each.params for each in self._record.suggested]
        ended = {i for i, each in enumerate(self._record.suggested) if each.status != "waiting"}
        mode = "max" if config["valid_metric_bigger"] else "min"
        left, number = self._left, self._record.trials
        if left == 0:
            left, number = None, len(known)
        self._start = time.monotonic()
        return Plan(
            functools.partial(train_suggested, folder=self._path.parent / "trials", ended=ended),
            Suggester(space, [*known, *starts[len(known) :]], mode, config["seed"], self._add),
            -1 if number is None else max(number, len(known)),
            Asha(epochs, self._record.facts["interactions"], len(starts), ended),
            fitting(self._resources),
            left,
        )

    def _add(self, point: dict[str, Any], params: dict[str, Any]) -> None:
        """Record a trial that is suggested, unless it is known."""
        from recbole_hns.tuning.suggest import NUMBER, result_file

        number = point[NUMBER]
        if number < len(self._record.suggested):
            return
        self._record.suggested.append(Suggested(params=dict(params)))
        self.table.add(point, result_file(self._path.parent / "trials", number))
        write_record(self._record, self._path)

    def update(self) -> None:
        """Record how trials have ended."""
        record = self._record
        seconds = self._before + time.monotonic() - self._start
        for suggested, status in zip(record.suggested, self.table.statuses, strict=True):
            if suggested.status == "waiting" != status:
                late = record.budget is not None and seconds >= record.budget
                suggested.status = "cut" if late and status == "stopped" else status
                suggested.seconds = seconds
        write_record(self._record, self._path)

    def report(self, keys: Mapping[str, Any], config: Config) -> Report:
        """Write the page and what belongs to it."""
        folder, table = self._path.parent, self.table.typed()
        points = [{k: v for k, v in point.items() if k != "trial"} for point in self.table.points]
        ended = pd.Series([each.seconds for each in self._record.suggested], dtype=float)
        metric, bigger = config["valid_metric"].lower(), config["valid_metric_bigger"]
        told = (ended, parameters_of(points), metric, bigger)
        draw = functools.partial(search_pictures, *told, output=folder)
        seconds = 0.0 if ended.isna().all() else ended.max()
        return write_report(keys, points, config, table, seconds, folder, draw, searched=True)


def _recorded(
    path: Path, given: Mapping[str, Any], budget: float | None, trials: int | None
) -> SearchRecord:
    """What a record says of a search, with the limits that are given now.

    Raises:
        UserError: if there is none, or what else is given now differs from it.
    """
    record = read_record(path, SearchRecord)
    for key in ("model", "dataset"):
        if not isinstance(record.keys.get(key), str):
            raise damaged(path, f"keys: {key} is missing")
    for key, value in given.items():
        if record.keys.get(key) != value:
            before = record.keys.get(key)
            raise UserError.of(key, value, f"the search was started with {before}")
    check_trust(path, map(record.keys.get, AXES), map(given.get, AXES))
    if budget is not None or trials is not None:
        record.budget, record.trials = budget, trials
    return record


def _job(keys: Mapping[str, Any], own: Mapping[str, Any], resources: Resources) -> Job:
    samplers, losses = (
        {keys[axis]: own[axis]} if axis in own else {} for axis in ("sampler", "loss")
    )
    return Job(keys, samplers, losses, [{}], [], resources)


def _facts(split: Split) -> Facts:
    """Of a split; the data set counts one user and one item more, for padding."""
    train = split.train
    return Facts(train.user_num - 1, train.item_num - 1, len(train))


def _own_classes(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The options that have to be given again for a search with classes of the user's."""
    return {axis: keys.get(axis) for axis in AXES if not is_known(keys.get(axis))}
