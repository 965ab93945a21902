"""What it takes to have sequences ready for training: memory and seconds, here and with RecBole.

``python experiments/sequences.py --help`` lists the options.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from tabulate import tabulate

from recbole_hns.cli import run_command
from recbole_hns.cli.options import Command, Given, options
from recbole_hns.files import replace_file, writable_directory

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataloader import AbstractDataLoader

#: Interactions of a user, and of an item.
PER_USER, PER_ITEM = 50, 100

#: Batches whose seconds are taken, after as many others.
BATCHES = 40

OPTIONS = options(
    program=(Literal["ours", "recbole"], Field("ours", description="which reads the data")),
    interactions=(PositiveInt, Field(1_000_000, ge=200_000, description="how many")),
    max_len=(PositiveInt, Field(50, description="RecBole's MAX_ITEM_LIST_LENGTH")),
    data_path=(str, Field("dataset", min_length=1, description="directory for the data set")),
)

HELP = """\
Read synthetic interactions, split them by leaving the last two of each user out, and make batches
of 2,048 sequences, in this process, by one thread. Prints a row of Markdown: the most memory over
what the process had before, and seconds. A user has 50 interactions on average and an item 100,
both by a power law. The data set stays in data_path, for the other program.
"""


def run(given: Given) -> None:
    """Read, split, make batches and report."""
    # RecBole's config would read this command's options
    sys.argv = sys.argv[:1]
    values = given.values
    number = values["interactions"]
    name = f"sequences-{number}"
    folder = writable_directory("data_path", str(Path(values["data_path"]) / name))
    path = folder / f"{name}.inter"
    if not path.exists():
        # in a process of its own, whose memory is not this one's
        writer = get_context("spawn").Process(target=write, args=(path, number))
        writer.start()
        writer.join()
    print(markdown(name, values))


def write(path: Path, number: int) -> None:
    """Write the data set's file."""
    table = interactions(number)
    replace_file(path, lambda file: table.to_csv(file, sep="\t", index=False))


def interactions(number: int) -> pd.DataFrame:
    """Interactions in random order, of every user at least 5."""
    random = np.random.default_rng(2020)
    users, items = max(number // PER_USER, 1), max(number // PER_ITEM, 1)
    few = np.repeat(np.arange(users), 5)
    user = np.append(few, drawn(random, number - len(few), users))
    time_ = 1_700_000_000 + random.integers(0, 10**7, number)
    table = {"user_id:token": user, "item_id:token": drawn(random, number, items)}
    return pd.DataFrame({**table, "timestamp:float": time_}).iloc[random.permutation(number)]


def drawn(random: np.random.Generator, number: int, kinds: int) -> np.ndarray:
    """Draws from 0 to ``kinds`` - 1 with the probability of a power law."""
    mass = np.cumsum(np.arange(1, kinds + 1) ** -0.7)
    return random.permutation(kinds)[np.searchsorted(mass, random.random(number) * mass[-1])]


def markdown(name: str, values: dict[str, Any]) -> str:
    """What one program takes, as a table of one row."""
    import torch
    from recbole.config import Config
    from recbole.utils import init_seed

    torch.set_num_threads(1)
    config = Config(
        "SASRec",
        name,
        config_dict={
            "data_path": values["data_path"],
            "MAX_ITEM_LIST_LENGTH": values["max_len"],
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
            "protocol": "valid",
            "state": "ERROR",
        },
    )
    load = {"ours": ours, "recbole": recboles}[values["program"]](config)
    init_seed(config["seed"], config["reproducibility"])
    before = peak()
    start = time.perf_counter(), time.process_time()
    make = load()
    read_seconds, read_peak = time.perf_counter() - start[0], peak()
    loader = make()
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    all_peak = peak()
    batches = iter(loader)
    for _ in range(BATCHES):
        next(batches)
    start_of_batches = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    row = {
        "interactions": f"{values['interactions']:,}",
        "program": values["program"],
        "reading, s": f"{read_seconds:.1f}",
        "the rest, s": f"{seconds - read_seconds:.1f}",
        "CPU, s": f"{cpu:.1f}",
        "peak of reading, MiB": f"{read_peak - before:.0f}",
        "peak, MiB": f"{all_peak - before:.0f}",
        "a batch, ms": f"{1000 * (time.perf_counter() - start_of_batches) / BATCHES:.2f}",
        "training rows": f"{len(loader.dataset):,}",
    }
    return tabulate([row], headers="keys", tablefmt="pipe", disable_numparse=True)


Loading = Callable[[], Callable[[], "AbstractDataLoader"]]


def ours(config: Config) -> Loading:
    """Reads by this package; what it gives makes the training loader."""
    from recbole_hns.data import create_dataset, data_loaders, split_dataset

    def load() -> Callable[[], AbstractDataLoader]:
        dataset = create_dataset(config)
        return lambda: data_loaders(config, split_dataset(config, dataset))[0]

    return load


def recboles(config: Config) -> Loading:
    """Reads by RecBole; likewise."""
    from recbole.data import create_dataset, data_preparation

    import recbole_hns.compat  # noqa: F401

    def load() -> Callable[[], AbstractDataLoader]:
        dataset = create_dataset(config)
        return lambda: data_preparation(config, dataset)[0]

    return load


def peak() -> float:
    """The most memory that the process has had, MiB."""
    # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


COMMAND = Command("sequences", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_command(COMMAND, list(arguments), "sequences")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
