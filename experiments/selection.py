"""Fitting a model for every combination of a grid, and testing the best on validation data."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from recbole.model.general_recommender import EASE
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_hns.benchmark.memory import PeakMemory
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.errors import UserError
from recbole_hns.protocol import PAPER_NOTE
from recbole_hns.results import versions
from recbole_hns.tuning.baselines import check_memory

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset


def select(values: Mapping[str, Any], grid: Mapping[str, Any]) -> dict[str, Any]:
    """Fit every combination of ``grid`` and test the one that is best on validation data.

    Args:
        values: ``model``, ``dataset``, ``data_path``, ``protocol`` and ``seed``.
        grid: a value or a list of values for each hyperparameter of the model.

    Returns:
        What the result file holds: the combination ``chosen``, its ``valid`` and ``test`` metrics,
        its cost as :func:`fit` gives it, ``process_mib``, the most memory that the process had,
        and all ``fits``.

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
    selected: dict[str, Any] | None = None
    trainer: Trainer | None = None
    for combination in itertools.product(*map(_listed, grid.values())):
        chosen = dict(zip(grid, combination, strict=True))
        for key, value in chosen.items():
            config[key] = value
        model, cost = fit(model_class, config, train._dataset)
        trainer = trainer or Trainer(config, model)
        trainer.model = model
        result = dict(trainer.evaluate(valid, load_best_model=False))
        fits.append({**chosen, "valid": result, **cost})
        if selected is None or result["ndcg@20"] > selected["valid"]["ndcg@20"]:
            selected, best = fits[-1], model
        shown = " ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"{shown}: NDCG@20 {result['ndcg@20']:.4f}", flush=True)
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
    return model, {**cost, "increase_mib": memory.increase / 2**20}


def _model_class(name: str, dataset: Dataset) -> type:
    """The class of a model that can be fitted here.

    Raises:
        UserError: if it needs what is not there.
    """
    if name == "als":
        try:
            from recbole_hns.tuning.als import ALS
        except ModuleNotFoundError:
            allowed = 'needs implicit: pip install -e ".[experiments]"'
            raise UserError.of("model", name, allowed) from None
        return ALS
    check_memory(dataset.item_num, dataset.dataset_name)
    return EASE


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
