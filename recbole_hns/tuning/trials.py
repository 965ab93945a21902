"""Ray Tune doing all trials of a job."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole_hns.config import Config
from recbole_hns.data.preparation import Split
from recbole_hns.errors import JobError
from recbole_hns.tuning.cluster import NodeWatch, Resources
from recbole_hns.tuning.ray_names import (
    ASHAScheduler,
    MedianStoppingRule,
    RunConfig,
    Searcher,
    ray,
    tune,
)
from recbole_hns.tuning.table import TrialTable
from recbole_hns.tuning.trial import Job, train_trial

if TYPE_CHECKING:
    from ray.tune import ResultGrid

logger = logging.getLogger("ray")

#: Seconds after which it is said what the first trial waits for.
START_SECONDS = 60


class Plan(NamedTuple):
    """How Ray goes through the trials of a job.

    Attributes:
        trainable: is called with a point, and with ``job`` and ``data``.
        search: suggests the points.
        number: of trials; -1 for as many as there is time for.
        scheduler: ends hopeless trials early; None lets all come to their end.
        concurrent: trials at a time; None for as many as fit.
        seconds: after which all end; None for no limit.
    """

    trainable: Callable[..., None]
    search: Searcher
    number: int
    scheduler: ASHAScheduler | MedianStoppingRule | None
    concurrent: int | None
    seconds: float | None = None


def every_point(job: Job, config: Config, scheduler: str | None = None) -> Plan:
    """The plan of a job whose points are known, each tried once.

    Args:
        job: the job.
        config: as :func:`recbole_hns.tuning.preparation.prepared` returns it.
        scheduler: ``asha``, ``median`` or none.
    """
    ends = _scheduler(scheduler, config["epochs"])
    number, concurrent = len(job.points), job.resources.max_concurrent
    return Plan(train_trial, Points(job.points), number, ends, concurrent)


def run_trials(
    job: Job,
    config: Config,
    splits: Mapping[int, Split],
    table: TrialTable,
    resuming: str,
    plan: Plan,
    after_each: Callable[[], object] = lambda: None,
) -> ResultGrid:
    """Train and test at every point of a job, in a Ray session; their table is kept up to date.

    The data is shared through Ray's object store, and processes are kept from trial to trial.

    Args:
        job: the trials.
        config: as :func:`recbole_hns.tuning.preparation.prepared` returns it.
        splits: likewise.
        table: the table of the trials, beside whose file Ray's own go.
        resuming: the command that would go on with the job.
        plan: which trials there are.
        after_each: called when a trial has ended and the table has been written.

    Returns:
        Ray's ``ResultGrid``.

    Raises:
        JobError: if Ray fails as a whole.
        KeyboardInterrupt: if interrupted; both say what is done and how to go on.
    """
    # processes work elsewhere
    job = replace(job, keys={**job.keys, "data_path": config.data_root})
    progress = Progress(table, job.resources, after_each)
    before = {index for index, point in enumerate(table.points) if table.has_ended(point)}
    with _quiet():
        data = {seed: ray.put(split) for seed, split in splits.items()}
        trainable = tune.with_parameters(plan.trainable, job=job, data=data)
        tuner = tune.Tuner(
            tune.with_resources(trainable, job.resources.of_trial),
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max" if config["valid_metric_bigger"] else "min",
                num_samples=plan.number,
                search_alg=plan.search,
                scheduler=plan.scheduler,
                time_budget_s=plan.seconds,
                max_concurrent_trials=plan.concurrent,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="ray", storage_path=str(table.path.parent), verbose=0, callbacks=[progress]
            ),
        )
        table.write()
        try:
            results = tuner.fit()
        except (Exception, KeyboardInterrupt) as error:
            left = f"{table.counts()}, in {table.path}; to go on: {resuming}"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(left) from None
            # the whole traceback may be the message
            reason = str(error).strip().rpartition("\n")[2]
            raise JobError(f"{reason}; {left}") from error
    # of a search that ends by time there may be points that were known, and not come to again
    for index, (point, result) in enumerate(zip(table.points, results, strict=False)):
        # a trial that died before its first report has no config
        if index not in before:
            table.put(result.config or point, result.metrics or {}, result.error)
    table.write()
    after_each()
    return results


class Points(Searcher):
    """Suggests points that are known beforehand, in their order."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._points = [dict(point) for point in points]
        self._next = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next point."""
        if self._next == len(self._points):
            return Searcher.FINISHED
        self._next += 1
        return self._points[self._next - 1]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A result changes nothing."""

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Neither does the metric."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: an interrupted job is resumed from the result files."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""


class Progress(tune.Callback):
    """Keeps the table up to date, prints a line for each trial that has ended, and watches Ray.

    Args:
        table: the table.
        resources: what a trial needs.
        after_each: called when a trial has ended and the table has been written.
    """

    def __init__(
        self, table: TrialTable, resources: Resources, after_each: Callable[[], object]
    ) -> None:
        self._table, self._resources, self._after_each = table, resources, after_each
        self._watch = NodeWatch()
        self._tell_at: float | None = time.monotonic() + START_SECONDS

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune writes it beside the trials, for a way to resume that is not used here."""
        return tune.Callback, ()

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Called by Ray many times a second."""
        self._watch.check()
        if self._tell_at is not None and time.monotonic() > self._tell_at:
            self._tell_at = None
            wanted = self._resources
            needs = f"{wanted.cpus_per_trial} CPUs and {wanted.gpus_per_trial:g} GPUs"
            print(f"waiting for Ray to have {needs} free for a trial", file=sys.stderr, flush=True)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Called by Ray when a trial has a process."""
        self._tell_at = None

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Called by Ray when a trial has ended, by itself or by the scheduler."""
        self._end(trial, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Called by Ray when a trial has failed."""
        self._end(trial, "its process ended")

    def _end(self, trial: Any, error: str | None) -> None:
        # what was finished before its job was resumed is in the table
        if self._table.has_ended(trial.config):
            return
        self._table.put(trial.config, trial.last_result or {}, error)
        self._table.write()
        self._after_each()
        # who reads that it has ended may end the job, and finds the tables written
        print(self._table.line(trial.config), file=sys.stderr, flush=True)


def _scheduler(name: str | None, epochs: int) -> ASHAScheduler | MedianStoppingRule | None:
    """Ray's scheduler, counting in trained epochs; none in the first tenth of a run."""
    first = max(1, epochs // 10)
    if name == "asha":
        # at max_t Ray would stop a trial before its test
        return ASHAScheduler(time_attr="epochs", max_t=epochs + 1, grace_period=first)
    if name == "median":
        return MedianStoppingRule(time_attr="epochs", grace_period=first)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray's warnings and tracebacks: what fails is reported in its trial's row."""
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
