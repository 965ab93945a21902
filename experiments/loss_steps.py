"""What a training step of a sequential model costs with a large catalogue, by loss.

``python experiments/loss_steps.py --help`` lists the options.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, PositiveInt
from tabulate import tabulate

from recbole_hns.cli import run_command
from recbole_hns.cli.options import Command, Given, options

if TYPE_CHECKING:
    from torch.optim import Optimizer

#: Steps that are timed, after as many others.
STEPS = 3

#: Interactions of a user; each item has one at least.
PER_USER = 10

SOFTMAX = {"sampler": "all", "loss": "softmax", "softmax_positive": True, "loss_tau": 1.0}

#: Programs by name; RecBole's has no keys of ours.
PROGRAMS: dict[str, dict[str, Any]] = {
    "RecBole, CE": {"sampler": "rns"},
    "softmax, all items in chunks": {**SOFTMAX, "candidate_num": "all"},
    "softmax, 1,024 shared": {**SOFTMAX, "candidate_num": 1024, "candidate_sharing": "batch"},
    "sce": {"sampler": "all", "loss": "sce"},
}

OPTIONS = options(
    items=(PositiveInt, Field(100_000, ge=1_000, description="items of the catalogue")),
    batch=(PositiveInt, Field(256, description="sequences in a batch")),
)

HELP = """\
Train SASRec (2 layers, 64 numbers an item, sequences of 10) for a few steps on synthetic
interactions, with RecBole's cross-entropy and with the losses here, each in a process of its own,
by one thread. Prints a table of Markdown: processor seconds of a step, the median of three, those
of its optimiser alone, dense Adam in all of them, and the most memory over what model and data
take.
"""


def run(given: Given) -> None:
    """Measure each program, and report."""
    # RecBole's config would read this command's options
    sys.argv = sys.argv[:1]
    items, batch = given.values["items"], given.values["batch"]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), items)
        rows = []
        for name in PROGRAMS:
            # where what trainers leave is removed with the data
            there = {"initializer": os.chdir, "initargs": (folder,)}
            with ProcessPoolExecutor(1, get_context("spawn"), **there) as pool:
                rows.append(pool.submit(measured, folder, name, batch).result())
    table = tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)
    print(f"{items:,} items, batches of {batch}\n\n{table}")


def write(folder: Path, items: int) -> None:
    """Write a data set named ``steps``: every item once at least, users of ten interactions."""
    random = np.random.default_rng(2020)
    users = -(-items // PER_USER)
    item = np.append(random.permutation(items), random.integers(0, items, users * PER_USER - items))
    (folder / "steps").mkdir()
    with open(folder / "steps" / "steps.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(f"{n // PER_USER}\t{i}\t{n % PER_USER}\n" for n, i in enumerate(item))


def measured(folder: str, name: str, batch: int) -> dict[str, str]:
    """What a program's steps take, as a row of the table."""
    import torch

    from recbole_hns.benchmark.entries import Entry
    from recbole_hns.benchmark.memory import PeakMemory
    from recbole_hns.benchmark.training import Training
    from recbole_hns.config import Config
    from recbole_hns.data import create_dataset

    torch.set_num_threads(1)
    keys = {
        "data_path": folder,
        "checkpoint_dir": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_batch_size": batch,
        "MAX_ITEM_LIST_LENGTH": PER_USER,
        "show_progress": False,
        "state": "ERROR",
        "use_gpu": False,
    }
    keys |= PROGRAMS[name]
    sampler, loss = keys.pop("sampler"), keys.pop("loss", None)
    config = Config("SASRec", "steps", sampler, None, keys, loss=loss)
    if name.startswith("RecBole"):
        config["loss_type"] = "CE"  # which is refused beside a sampler
    training = Training(Entry(name, config, None, None), create_dataset(config))
    training.now = time.process_time
    optimiser = Timed(training.trainer.optimizer)
    with PeakMemory(torch.device("cpu")) as memory:
        steps = recboles(training) if name.startswith("RecBole") else ours(training)
        seconds = [next(steps) for _ in range(2 * STEPS)][STEPS:]
    return {
        "loss": name,
        "a step, s": f"{median(seconds):.3g}",
        "its optimiser, s": f"{median(optimiser.seconds[STEPS:]):.3g}",
        "peak memory, MiB": f"{memory.increase / 2**20:,.0f}",
    }


class Timed:
    """Has an optimiser note the seconds of its steps."""

    def __init__(self, optimiser: Optimizer) -> None:
        self.seconds: list[float] = []
        self._step = optimiser.step
        optimiser.step = self.step  # type: ignore[method-assign]

    def step(self, *arguments: Any) -> Any:
        """Make a step."""
        start = time.process_time()
        result = self._step(*arguments)
        self.seconds.append(time.process_time() - start)
        return result


def ours(training: Any) -> Iterator[float]:
    """Seconds of each step of this package's trainer, which trains epochs of one batch."""
    batches = training.trainer._batches
    training.trainer._batches = lambda data: islice(batches(data), 1)
    while True:
        yield training.train_epoch()


def recboles(training: Any) -> Iterator[float]:
    """Seconds of each step of RecBole's model, which computes its own loss."""
    trainer = training.trainer
    for interaction in training.train_data:
        start = time.process_time()
        trainer.optimizer.zero_grad()
        trainer.model.calculate_loss(interaction).backward()
        trainer.optimizer.step()
        yield time.process_time() - start


COMMAND = Command("loss_steps", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_command(COMMAND, list(arguments), "loss_steps")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
