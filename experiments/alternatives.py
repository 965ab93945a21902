"""What a user would pick instead: ALS and EASE on the same splits, by the same evaluation.

``python experiments/alternatives.py --help`` lists the options.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

import psutil
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from recbole.model.general_recommender import EASE
from recbole.trainer import Trainer
from recbole.utils import init_seed
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from recbole_hns.benchmark.memory import PeakMemory
from recbole_hns.cli.options import option_help, options, parse, typed
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory
from recbole_hns.protocol import PAPER_NOTE, Protocol
from recbole_hns.record import versions

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

Count = PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Positive | Annotated[list[Positive], Field(min_length=1)]

#: Hyperparameters of each model; a list is a grid.
GRIDS = {
    "als": options(
        factors=(Count, Field(64, description="dimension of the embeddings")),
        alpha=(Weight, Field(10.0, description="confidence of an observed pair")),
        regularization=(Weight, Field(30.0, description="L2")),
        iterations=(Count, Field(15, description="passes over users and items")),
    ),
    "ease": options(
        reg_weight=(Weight, Field(250.0, description="L2, lambda")),
    ),
}

OPTIONS = options(
    model=(Literal["als", "ease"], Field("als", description="implicit's ALS or RecBole's EASE")),
    dataset=(str, Field("ml-100k", min_length=1, description="data set, as in recbole-hns run")),
    data_path=(str, Field("dataset", min_length=1, description="directory it is read from")),
    protocol=(Protocol, Field("valid", description="what selects: validation or test part")),
    seed=(NonNegativeInt, Field(2020, lt=2**32, description="of the split and of ALS")),
    output=(str, Field("alternatives", min_length=1, description="directory for the result file")),
)

USAGE = """\
usage: python experiments/alternatives.py [--model=als|ease] [--KEY=VALUE ...]

Fit a model to the training part for every combination of the values given, such as
--alpha=3,10 --regularization=10,30, and select by NDCG@20 on the validation part. Writes
MODEL-DATASET.json and prints the selected one as a row of Markdown. One thread is used.

"""

METRICS = ("Recall@20", "NDCG@20", "Recall@50", "NDCG@50")

#: Bytes of EASE for each pair of items: the matrix, and two more to invert it.
EASE_BYTES = 12

MIB = 2**20


def main(arguments: Sequence[str]) -> int:
    """Fit, select, test and report; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE + "\n".join(map(option_help, (OPTIONS, *GRIDS.values()))))
        return 0
    try:
        given = parse(arguments)
        values = typed(given, OPTIONS | GRIDS["als"] | GRIDS["ease"])
        own = GRIDS[values["model"]]
        for name in given.keys() - OPTIONS.keys() - own.keys():
            allowed = f"no option of model={values['model']}, whose are {', '.join(own)}"
            raise UserError.of(name, given[name], allowed)
        output = writable_directory("output", values["output"])
        with threadpool_limits(1):
            report = compare(values, {name: values[name] for name in own})
    except UserError as error:
        print(f"alternatives: error: {error}", file=sys.stderr)
        return 2
    path = output / f"{report['model']}-{report['dataset']}.json"
    replace_file(path, lambda file: file.write(json.dumps(report, indent=1).encode() + b"\n"))
    print(f"\n{markdown(report)}\n\nresult file: {path}")
    return 0


def compare(values: Mapping[str, Any], grid: Mapping[str, Any]) -> dict[str, Any]:
    """Fit every combination of ``grid`` and test the one that is best on validation data.

    Raises:
        UserError: if the data cannot be used, or a package or memory is lacking.
    """
    config = Config(
        "BPR",  # any that is allowed: it decides nothing of the data or the evaluation
        values["dataset"],
        "rns",
        config_dict={
            **{key: values[key] for key in ("data_path", "protocol", "seed")},
            "metrics": ["Recall", "NDCG"],
            "topk": [20, 50],
            "valid_metric": "NDCG@20",
            "metric_decimal_place": 6,
            "use_gpu": False,
            "state": "ERROR",
        },
    )
    # a split by ratio is drawn
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    name = values["model"]
    model_class = _model_class(name, train._dataset)
    fits: list[dict[str, Any]] = []
    trainer: Trainer | None = None
    for combination in itertools.product(*map(_listed, grid.values())):
        chosen = dict(zip(grid, combination, strict=True))
        for key, value in chosen.items():
            config[key] = value
        model, cost = fit(model_class, config, train._dataset)
        trainer = trainer or Trainer(config, model)
        trainer.model = model
        fits.append({**chosen, "valid": dict(trainer.evaluate(valid, load_best_model=False))})
        fits[-1].update(cost)
        selected = max(fits, key=lambda found: found["valid"]["ndcg@20"])
        if selected is fits[-1]:
            best = model
        shown = " ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"{shown}: NDCG@20 {fits[-1]['valid']['ndcg@20']:.4f}", flush=True)
    trainer.model = best
    return {
        **{key: values[key] for key in ("model", "dataset", "protocol", "seed")},
        **({"note": PAPER_NOTE} if values["protocol"] == "paper" else {}),
        "chosen": {key: selected[key] for key in grid},
        "valid": selected["valid"],
        "test": dict(trainer.evaluate(test, load_best_model=False)),
        **{key: selected[key] for key in cost},
        # Linux counts in KiB
        "process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "fits": fits,
        "versions": versions() | ({"implicit": version("implicit")} if name == "als" else {}),
    }


def fit(model_class: type, config: Config, dataset: Dataset) -> tuple[Any, dict[str, float]]:
    """A model fitted to a data set, and what that took.

    Returns:
        The model, and its cost: ``seconds``, by the clock; ``cpu_seconds``, which other programs on
        the machine prolong less; ``increase_mib``, by how much memory rose.
    """
    with PeakMemory(torch.device("cpu")) as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        model = model_class(config, dataset)
        cost = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
    return model, {**cost, "increase_mib": memory.increase / MIB}


def markdown(report: Mapping[str, Any]) -> str:
    """A table of one row: settings, results on both parts and cost."""
    row = {
        "data": report["dataset"],
        "model": report["model"],
        "settings": ", ".join(f"{key} {value:g}" for key, value in report["chosen"].items()),
        "valid NDCG@20": f"{report['valid']['ndcg@20']:.4f}",
        **{f"test {spelt}": f"{report['test'][spelt.lower()]:.4f}" for spelt in METRICS},
        "seconds": f"{report['seconds']:.1f}",
        "process MiB": f"{report['process_mib']:.0f}",
    }
    return tabulate([row], headers="keys", tablefmt="pipe", disable_numparse=True)


def _model_class(name: str, dataset: Dataset) -> type:
    """The class of a model that can be fitted here.

    Raises:
        UserError: if it needs what is not there.
    """
    if name == "als":
        try:
            from als import ALS
        except ModuleNotFoundError:
            allowed = 'needs implicit: pip install -e ".[experiments]"'
            raise UserError.of("model", name, allowed) from None
        return ALS
    needed, free = EASE_BYTES * dataset.item_num**2, psutil.virtual_memory().available
    if needed > free:
        allowed = (
            f"EASE inverts a dense matrix of {dataset.item_num} x {dataset.item_num} items, "
            f"which takes {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free"
        )
        raise UserError.of("dataset", dataset.dataset_name, allowed)
    return EASE


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
