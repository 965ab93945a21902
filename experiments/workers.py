"""One training on 1, 2 and 3 workers: how far their figures differ, and what the second costs.

``python experiments/workers.py --help`` lists the options.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import Field, PositiveInt
from recbole.utils import init_seed
from tabulate import tabulate

from recbole_hns.cli import run_command
from recbole_hns.cli.options import Command, Given, options
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.ops import workers
from recbole_hns.recommendation import build_model
from recbole_hns.sampler import SAMPLERS
from recbole_hns.training.trainer import HardNegativeTrainer

OPTIONS = options(
    table=(
        Literal["samplers", "metrics", "speed"],
        Field("samplers", description="what is compared"),
    ),
    dataset=(str, Field("ml-100k", description="data set; ml-100k comes with RecBole")),
    data_path=(str | None, Field(None, description="directory of data sets; unset is RecBole's")),
    samplers=(str, Field("", description='those of the table of samplers, "A B"; unset is all')),
    epochs=(PositiveInt, Field(3, ge=2, description="epochs of each training")),
    seed=(int, Field(2020, ge=0, description="of the trainings")),
)

HELP = """\
Train with 1 process and with several workers of one thread on this machine, and print a table in
Markdown.

samplers: the largest relative difference of an epoch's loss or hardness, and of a test metric, to
one process, of every sampler on BPR and LightGCN, in double precision.
metrics: that of every ranking metric, of full evaluation and of 100 drawn negatives.
speed: processor seconds and bytes of two workers beside one; the first epoch is not counted.
"""

#: Of all trainings.
BASE: dict[str, Any] = {
    "eval_step": 1,
    "metric_decimal_place": 16,
    "valid_metric": "NDCG@10",
    "topk": [10],
    "show_progress": False,
    "state": "ERROR",
    "use_gpu": False,
}

#: Where figures are compared: few steps of many rows, large enough to change the scores.
COMPARED = {"train_batch_size": 4096, "embedding_size": 32, "learning_rate": 0.01}

MODELS = {"BPR": {}, "LightGCN": {"n_layers": 2}}

METRICS = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC", "ItemCoverage"]
METRICS += ["AveragePopularity", "GiniIndex", "ShannonEntropy", "TailPercentage"]
METRICS += ["OPAUC", "NormOPAUC", "LLPAUC", "NormLLPAUC"]

SHARED = {"sampler": "all", "loss": "softmax", "candidate_num": 1024, "candidate_sharing": "batch"}
SHARED |= {"similarity": "cosine", "loss_tau": 0.1}
TIMED = {
    "BPR, `softmax`, 1,024 shared": {**SHARED, "learner": "sparse_adam"},
    "BPR, `kernel`": {"sampler": "kernel", "learner": "sparse_adam"},
    "LightGCN, 3 layers, `softmax`, 1,024 shared": {**SHARED, "model": "LightGCN", "n_layers": 3},
}


class Case(NamedTuple):
    """A training: its config, and whether it is in double precision."""

    keys: Mapping[str, Any]
    double: bool


class Figures(NamedTuple):
    """What a training came to on the first worker.

    Attributes:
        losses: loss and hardness of each epoch.
        metrics: of the test.
        seconds: of each epoch's training, with what the machine did besides.
        cpu: processor seconds of the same, the evaluation left out.
        eval_cpu: processor seconds of the test.
        mib: summed with the other workers in a step.
    """

    losses: np.ndarray
    metrics: Mapping[str, float]
    seconds: list[float]
    cpu: list[float]
    eval_cpu: float
    mib: float


def run(given: Given) -> None:
    """Train all cases and print the table."""
    # RecBole's config would read this command's options
    sys.argv = sys.argv[:1]
    values = given.values
    table = values["table"]
    made = cases(values)
    found = {num: of_workers(num, made) for num in ((1, 2) if table == "speed" else (1, 2, 3))}
    rows = {"samplers": samplers_rows, "metrics": metrics_rows, "speed": speed_rows}[table](found)
    print(tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True))


def cases(values: Mapping[str, Any]) -> dict[tuple[str, ...], Case]:
    """The trainings of a table by what they are called there."""
    base = {**BASE, **{key: values[key] for key in ("dataset", "epochs", "seed")}}
    if values["data_path"] is not None:
        base["data_path"] = values["data_path"]
    if values["table"] == "speed":
        return {(name,): Case({**base, **keys}, double=False) for name, keys in TIMED.items()}
    base |= COMPARED
    if values["table"] == "metrics":
        base |= {"sampler": "rns", "metrics": METRICS}
        modes = ("full", "uni100", "pop100")
        return {(mode,): Case({**base, "eval_args": {"mode": mode}}, double=True) for mode in modes}
    ours = [name for name, cls in SAMPLERS.items() if cls.__module__.startswith("recbole_hns.")]
    return {
        (sampler, model): Case({**base, "sampler": sampler, "model": model, **keys}, double=True)
        for sampler in values["samplers"].split() or sorted(ours)
        for model, keys in MODELS.items()
    }


def of_workers(num: int, made: Mapping[Any, Case]) -> dict[Any, Figures]:
    """The figures of each case, trained by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (num, made, folder), nprocs=num)
        return torch.load(Path(folder) / "figures.pt", weights_only=False)


def work(rank: int, num: int, made: Mapping[Any, Case], folder: str) -> None:
    """What one of the processes does."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # RecBole's LightGCN makes a tensor in a former way
    if num > 1:
        dist.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=num)
    found = {}
    for name, case in made.items():
        found[name] = trained(case, folder)
        if workers.first():
            print(f"{num}: {' '.join(name)}", file=sys.stderr, flush=True)
    if workers.first():
        torch.save(found, Path(folder) / "figures.pt")
    if num > 1:
        dist.destroy_process_group()


def trained(case: Case, folder: str) -> Figures:
    """Train and test."""
    keys = {**case.keys, "checkpoint_dir": folder}
    named = {key: keys.pop(key, None) for key in ("model", "dataset", "sampler", "loss")}
    config = Config(**named, config_dict=keys)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if case.double else default)
    try:
        init_seed(config["seed"], config["reproducibility"])
        train, _, test = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], config["reproducibility"])
        model = build_model(config, train._dataset)
        if case.double and hasattr(model, "norm_adj_matrix"):
            # which RecBole makes in single precision
            model.norm_adj_matrix = model.norm_adj_matrix.double()
        trainer = HardNegativeTrainer(config, model)
        cpu, reduced = [], Reduced()
        of_epoch = trainer._train_epoch

        def timed(*arguments: Any, **more: Any) -> Any:
            start = time.process_time()
            losses = of_epoch(*arguments, **more)
            cpu.append(time.process_time() - start)
            return losses

        trainer._train_epoch = timed
        with reduced:
            trainer.fit(train, None, saved=False, verbose=False)
        start = time.process_time()
        metrics = trainer.evaluate(test, load_best_model=False)
        eval_cpu = time.process_time() - start
        trainer.tensorboard.close()
    finally:
        torch.set_default_dtype(default)
    epochs = trainer.record.epochs
    return Figures(
        np.array([(each["train_loss"], each["hardness"] or 0.0) for each in epochs]),
        metrics,
        [each["train_seconds"] for each in epochs],
        cpu,
        eval_cpu,
        reduced.bytes / 2**20 / len(epochs) / len(train),
    )


class Reduced:
    """Counts, within it, the bytes of the tensors that workers sum."""

    def __init__(self) -> None:
        self.bytes = 0

    def __enter__(self) -> None:
        self._reduce = dist.all_reduce
        dist.all_reduce = self._counted

    def __exit__(self, *error: object) -> None:
        dist.all_reduce = self._reduce

    def _counted(self, tensor: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        self.bytes += tensor.nbytes
        return self._reduce(tensor, *arguments, **more)


Found = Mapping[int, Mapping[tuple[str, ...], Figures]]


def samplers_rows(found: Found) -> list[dict[str, str]]:
    """A row for each sampler and model: its largest differences."""
    rows = []
    for (sampler, model), alone in found[1].items():
        row = {"sampler": f"`{sampler}`", "model": model}
        for what in ("losses", "metrics"):
            for num in (2, 3):
                other = found[num][sampler, model]
                if what == "losses":
                    most = difference(alone.losses, other.losses)
                else:
                    most = max(
                        difference(value, other.metrics[name])
                        for name, value in alone.metrics.items()
                    )
                row[f"{what}, {num} workers"] = shown(most)
        rows.append(row)
    return rows


def metrics_rows(found: Found) -> list[dict[str, str]]:
    """A row for each metric: its differences in each evaluation."""
    rows = []
    for name in next(iter(found[1].values())).metrics:
        row = {"metric": name}
        for (mode,), alone in found[1].items():
            for num in (2, 3):
                other = found[num][mode,].metrics[name]
                row[f"{mode}, {num} workers"] = shown(difference(alone.metrics[name], other))
        rows.append(row)
    return rows


def difference(alone: Any, other: Any) -> float:
    """The largest relative one; of a figure that is 0 the figure itself."""
    alone, other = np.asarray(alone, dtype=float), np.asarray(other, dtype=float)
    scale = np.where(alone == 0, 1.0, np.abs(alone))
    return float(np.max(np.abs(alone - other) / scale))


def shown(value: float) -> str:
    """A difference in one digit; 0 is exact."""
    return f"{value:.0e}" if value else "0"


def speed_rows(found: Found) -> list[dict[str, str]]:
    """A row for each training and number of workers."""
    rows = []
    for name in found[1]:
        for num, by_case in found.items():
            figures = by_case[name]
            rows.append(
                {
                    "training": name[0],
                    "workers": str(num),
                    "an epoch, s": f"{statistics.median(figures.seconds[1:]):.1f}",
                    "processor, a worker, s": f"{statistics.median(figures.cpu[1:]):.1f}",
                    "test, processor, s": f"{figures.eval_cpu:.1f}",
                    "summed in a step, MiB": f"{figures.mib:.2f}",
                }
            )
    return rows


COMMAND = Command("workers", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return run_command(COMMAND, list(arguments), "workers")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
