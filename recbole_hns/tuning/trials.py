"""Ray Tune doing all trials of a job."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from recbole.utils import init_seed

from recbole_hns.config import Config
from recbole_hns.data.preparation import Split, create_dataset, data_loaders, split_dataset
from recbole_hns.errors import UserError
from recbole_hns.tuning.cluster import check_address
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


def prepared(job: Job) -> tuple[Config, dict[int, Split]]:
    """Read the data of a job once, and split it once for each seed, as the runs would.

    Returns:
        The config of the first trial, whose data and evaluation all others have, and the split of
        each seed.

    Raises:
        UserError: for a value that is not allowed, data that cannot be used, or a cluster that
            does not answer.
    """
    with _unchanged("CUDA_VISIBLE_DEVICES"):
        config = job.config(job.points[0], use_gpu=False)
        for key, reason in config.unused_keys().items():
            if key not in job.points[0]:
                print(f"{key} {reason}", file=sys.stderr)
        if not config["eval_step"]:
            raise UserError.of("eval_step", 0, "must be > 0: trials are chosen by validation")
        if job.resources.address is not None:
            check_address(job.resources.address)
        return config, dict(_splits(job))


def run_trials(
    job: Job,
    config: Config,
    splits: Mapping[int, Split],
    path: Path,
    scheduler: str | None = None,
) -> tuple[ResultGrid, pd.DataFrame]:
    """Train and test at every point of a job, in a Ray session; their table is kept up to date.

    The data is shared through Ray's object store, and processes are kept from trial to trial.

    Args:
        job: the trials.
        config: as :func:`prepared` returns it.
        splits: likewise.
        path: the table's file, beside which Ray's own files go.
        scheduler: ``asha`` or ``median`` ends hopeless trials early; None lets all come to their
            end.

    Returns:
        Ray's ``ResultGrid``, and the table of the trials.
    """
    table = TrialTable(job.points, job.files, path)
    with _quiet():
        data = {seed: ray.put(split) for seed, split in splits.items()}
        trainable = tune.with_parameters(train_trial, job=job, data=data)
        tuner = tune.Tuner(
            tune.with_resources(trainable, job.resources.of_trial),
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max" if config["valid_metric_bigger"] else "min",
                num_samples=len(job.points),
                search_alg=Points(job.points),
                scheduler=_scheduler(scheduler, config["epochs"]),
                max_concurrent_trials=job.resources.max_concurrent,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="ray", storage_path=str(path.parent), verbose=0, callbacks=[Progress(table)]
            ),
        )
        results = tuner.fit()
    for result in results:
        table.put(result.config, result.metrics or {}, result.error)
    table.write()
    return results, table.frame().infer_objects()


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
    """Keeps the table up to date, and prints a line for each trial that has ended."""

    def __init__(self, table: TrialTable) -> None:
        self._table = table

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Called by Ray when a trial has ended, by itself or by the scheduler."""
        self._end(trial, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Called by Ray when a trial has failed."""
        self._end(trial, "its process ended")

    def _end(self, trial: Any, error: str | None) -> None:
        self._table.put(trial.config, trial.last_result, error)
        self._table.write()
        print(self._table.line(trial.config), flush=True)


def _splits(job: Job) -> Iterator[tuple[int, Split]]:
    """The data, read once, as the runs of each seed split it."""
    configs: dict[int, Config] = {}
    for seed, point in {point.get("seed"): point for point in job.points}.items():
        config = job.config(point, use_gpu=False)
        configs[config["seed"] if seed is None else seed] = config
    dataset = None
    for seed, config in configs.items():
        init_seed(seed, config["reproducibility"])
        dataset = dataset or create_dataset(config)
        # splitting changes the data set
        copied = copy.copy(dataset)
        copied.config = config
        split = split_dataset(config, copied)
        if not len(split.valid):
            raise UserError.of("dataset", config["dataset"], "its validation part is empty")
        # what only the data show to be a mistake is reported before Ray starts
        data_loaders(config, split)
        yield seed, split


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


@contextmanager
def _unchanged(variable: str) -> Iterator[None]:
    """Put an environment variable back: RecBole's config sets it to its own GPU."""
    before = os.environ.get(variable)
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before
