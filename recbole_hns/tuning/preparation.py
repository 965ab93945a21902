"""The data of a job, read and split before Ray, which takes seconds, is imported."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recbole.utils import init_seed

from recbole_hns.config import Config
from recbole_hns.data.preparation import Split, create_dataset, data_loaders, split_dataset
from recbole_hns.errors import UserError
from recbole_hns.tuning.cluster import check_address
from recbole_hns.tuning.trial import Job


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
        if config["protocol"] == "all":
            allowed = "must be valid: trials are compared by what they were not trained on"
            raise UserError.of("protocol", "all", allowed)
        if not config["eval_step"]:
            raise UserError.of("eval_step", 0, "must be > 0: trials are chosen by validation")
        if job.resources.address is not None:
            check_address(job.resources.address)
        return config, dict(_splits(job))


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
        if split.valid is None or not len(split.valid):
            raise UserError.of("dataset", config["dataset"], "its validation part is empty")
        # what only the data show to be a mistake is reported before Ray starts
        data_loaders(config, split)
        yield seed, split


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
