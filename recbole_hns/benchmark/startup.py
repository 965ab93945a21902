"""Starting up: seconds from a new process to the end of its first training step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from recbole_hns.benchmark.entries import AXES, Entry

#: Exit status of a process that got to its first step.
STEPPED = 86

#: What both programs begin with: end at the first step of any optimiser.
STOP_AT_FIRST_STEP = f"""
import json, os, sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
given = json.loads(sys.argv.pop())
def stop(*args):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    os._exit({STEPPED})
register_optimizer_step_post_hook(stop)
torch.set_num_threads(given["threads"])
"""

#: RecBole's own program; NumPy 2 and SciPy 1.13 took away what its config and graph models need.
RECBOLE = """
import numpy as np
from scipy.sparse import dok_matrix
for name, type_ in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    if name not in np.__dict__:
        setattr(np, name, type_)
if not hasattr(dok_matrix, "_update"):
    dok_matrix._update = lambda self, data: self._dict.update(data)
from recbole.quick_start import run_recbole
run_recbole(given["model"], given["dataset"], config_dict=given["keys"], saved=False)
"""

#: This package's.
OURS = """
sys.path[:0] = given["path"]
from recbole_hns import run
run(given["model"], given["dataset"], given["sampler"], config_dict=given["keys"], saved=False)
"""


@dataclass
class Start:
    """Seconds of each start of an entry."""

    entry: Entry
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of :attr:`seconds`."""
        return median(self.seconds)


def time_starts(
    entries: Sequence[Entry], values: Mapping[str, Any], rounds: int, folder: Path
) -> list[Start]:
    """Start every entry in a process of its own, interleaved, ``rounds`` times.

    RecBole's own are started by its ``run_recbole``, samplers by this package's ``run``.

    Args:
        entries: the entries.
        values: the config keys that all entries share.
        rounds: starts of each.
        folder: where the processes work and leave RecBole's logs.

    Raises:
        RuntimeError: if a process ends before its first step.
    """
    starts = [Start(entry) for entry in entries]
    bar = tqdm(total=len(entries) * rounds, unit="start", disable=None)
    with bar:
        for _ in range(rounds):
            for start in starts:
                bar.set_description(start.entry.label)
                start.seconds.append(_start(start.entry, values, folder))
                bar.update()
    return starts


def _start(entry: Entry, values: Mapping[str, Any], folder: Path) -> float:
    config, threads = entry.config, torch.get_num_threads()
    keys = {key: value for key, value in values.items() if key not in ("model", "dataset")}
    if entry.recbole is None:
        program = OURS
        resolved = config.resolved()
        own = [*config.sampler.hyperparameters, *config.loss.hyperparameters, *AXES]
        keys.update({key: resolved[key] for key in own if key in resolved})
    else:
        program = RECBOLE
        keys["train_neg_sample_args"] = config["train_neg_sample_args"]
    given = {
        "model": config["model"],
        "dataset": config["dataset"],
        "sampler": config["sampler"],
        "keys": keys,
        "threads": threads,
        "path": [str(Path(path).resolve()) for path in sys.path if path],
    }
    command = [sys.executable, "-c", STOP_AT_FIRST_STEP + program, json.dumps(given)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if ended.returncode != STEPPED:
        raise RuntimeError(f"{entry.label} did not get to its first step:\n{ended.stderr}")
    return seconds
