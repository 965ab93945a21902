"""Models that a comparison has beside the samplers: they are fitted, not trained in epochs.

Each is fitted with every setting of a small grid that comes with it, and the one that is best in
validation is tested. RecBole's trainer for models without epochs does all of it, on the split and
by the evaluation of the other runs.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.model.general_recommender import EASE, ItemKNN
from recbole.model.general_recommender import Pop as RecBolePop
from recbole.trainer import TraditionalTrainer
from recbole.utils import InputType, init_seed
from threadpoolctl import threadpool_limits
from torch import Tensor

from recbole_hns.config import Config
from recbole_hns.config.keys import key_of
from recbole_hns.config.known import model_keys
from recbole_hns.data.preparation import Split, data_loaders
from recbole_hns.errors import UserError, did_you_mean
from recbole_hns.evaluation.user_metrics import UserEvaluator, write_user_metrics
from recbole_hns.files import plain
from recbole_hns.results import RunRecord
from recbole_hns.training.tensorboard import closing

if TYPE_CHECKING:
    from recbole.data.interaction import Interaction

#: Bytes of EASE at its peak for each pair of items, as measured on 3,706 and 10,429 items: NumPy
#: inverts the single-precision matrix in double precision, with copies.
EASE_BYTES = 36

#: RecBole's groups of keys: those of data and evaluation, which a baseline has too, and those of
#: training, which it has not.
READ = ("General", "Evaluation", "Dataset")
NOT_READ = ("Training", "Negative Sampling")


class Pop(RecBolePop):
    """RecBole's Pop, but that an item is counted as often as it is in a batch, not once."""

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Count the items of a batch."""
        item = interaction[self.ITEM_ID]
        self.item_cnt[:, 0] += torch.bincount(item, minlength=self.n_items)
        self.max_cnt = self.item_cnt.max(dim=0)[0]
        return self.fake_loss.sum()


@dataclass(frozen=True)
class Baseline:
    """A model to compare with.

    Attributes:
        grid: the values that are tried of each of its hyperparameters.
        draws: whether the seed decides how it starts, and not the data's split only.
        package: what it needs that does not come with this package.
    """

    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    draws: bool = False
    package: str | None = None

    def settings(self) -> list[dict[str, Any]]:
        """Every combination of the grid."""
        values = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, each, strict=True)) for each in values]


#: By name, in the order in which they are told.
BASELINES = {
    "Pop": Baseline(),
    "ItemKNN": Baseline({"knn_method": ["item"], "k": [50, 100, 200], "shrink": [0.0, 10.0]}),
    "EASE": Baseline({"reg_weight": [50.0, 100.0, 250.0, 500.0, 1000.0]}),
    "ALS": Baseline(
        {
            "factors": [64],
            "alpha": [3.0, 10.0, 40.0],
            "regularization": [10.0, 30.0, 100.0],
            "iterations": [15],
        },
        draws=True,
        package="implicit",
    ),
}


def baseline_names(text: str) -> list[str]:
    """The baselines of a list, separated by commas or spaces.

    Raises:
        UserError: for one that there is not, that is there twice, or whose package is missing.
    """
    names = re.findall(r"[^\s,]+", text)
    for name in names:
        if name not in BASELINES:
            allowed = f"must be of {', '.join(BASELINES)}{did_you_mean(name, BASELINES)}"
            raise UserError.of("baselines", name, allowed)
        if names.count(name) > 1:
            raise UserError.of("baselines", text, f"{name} is there twice")
        package = BASELINES[name].package
        if package is not None and not importlib.util.find_spec(package):
            allowed = f"needs {package}: pip install 'recbole-hns[baselines]'"
            raise UserError.of("baselines", name, allowed)
    return names


def model_class(name: str) -> type:
    """The class of a baseline."""
    if name == "ALS":
        # implicit is an extra
        from recbole_hns.tuning.als import ALS

        return ALS
    return {"Pop": Pop, "ItemKNN": ItemKNN, "EASE": EASE}[name]


def check_memory(items: int, dataset: str) -> None:
    """See that EASE's matrix fits in memory.

    Raises:
        UserError: if it does not.
    """
    needed, free = EASE_BYTES * items**2, psutil.virtual_memory().available
    if needed > free:
        allowed = (
            f"EASE inverts a dense matrix of {items} x {items} items, "
            f"which takes {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free"
        )
        raise UserError.of("dataset", dataset, allowed)


def described(name: str, config: Config) -> dict[str, Any]:
    """What the result file of a baseline has as its config: keys of the data and the evaluation.

    Args:
        name: the baseline's.
        config: that of a run on the same data with the same evaluation.
    """
    shared, other = (
        {key for group in groups for key in config.parameters[group]} for groups in (READ, NOT_READ)
    )
    other |= model_keys(config.model_class)
    kept = {
        key: value
        for key, value in config.final_config_dict.items()
        if key in shared or not (key in other or key_of(key).searchable)
    }
    return {**kept, "model": name, "sampler": name, "loss": None, "eval_step": 1}


def fit_and_test(
    name: str, config: Config, split: Split, file: Path, threads: int = 1
) -> RunRecord:
    """Fit a baseline with every setting of its grid, and test the one that is best in validation.

    Args:
        name: the baseline's.
        config: of the data and the evaluation, of any model; it is changed.
        split: the data.
        file: the result file to write.
        threads: what linear algebra may use.

    Returns:
        The content of the result file, which has every setting under ``tried``.

    Raises:
        UserError: if there is not enough memory.
    """
    told = described(name, config)
    if name == "EASE":
        check_memory(split.train.item_num, config["dataset"])
    none = {"distribution": "none", "sample_num": "none", "alpha": "none", "dynamic": False}
    _, valid_data, test_data = data_loaders(config, split)
    for key, value in {
        "model": name,
        # as many passes as RecBole has for a model without epochs
        "epochs": 1,
        "eval_step": 1,
        "learner": "adam",
        "log_wandb": False,
        "train_neg_sample_args": {**none, "candidate_num": 0},
        "MODEL_INPUT_TYPE": InputType.POINTWISE,
    }.items():
        config[key] = value
    train_data = TrainDataLoader(config, split.train, None)
    bigger, best, tried = config["valid_metric_bigger"], None, []
    for setting in BASELINES[name].settings():
        for key, value in setting.items():
            config[key] = value
        init_seed(config["seed"], config["reproducibility"])
        start, cpu_start = time.perf_counter(), time.process_time()
        with threadpool_limits(threads):
            model = model_class(name)(config, split.train)
            trainer = TraditionalTrainer(config, model)
            with closing(trainer.tensorboard):
                trainer.fit(train_data, saved=False, verbose=False)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        start = time.perf_counter()
        score, result = trainer._valid_epoch(valid_data)
        epoch = {
            "epoch": 1,
            "train_seconds": seconds,
            "train_cpu_seconds": cpu_seconds,
            "eval_seconds": time.perf_counter() - start,
        }
        tried.append({**setting, "score": score, "seconds": seconds})
        if best is None or (score > best[0] if bigger else score < best[0]):
            best = score, result, trainer, setting, epoch
    assert best is not None
    score, result, trainer, setting, epoch = best
    record = RunRecord(file, {**told, **setting})
    record.epochs = [{**epoch, **plain(result)}]
    record.results.update(best_epoch=1, best_valid_score=score, best_valid_result=result)
    by_user = UserEvaluator(config) if config["user_metrics"] else None
    trainer.evaluator = by_user or trainer.evaluator
    test_result = trainer.evaluate(test_data, load_best_model=False)
    if by_user is not None:
        write_user_metrics(file, by_user, test_data, told)
    record.results.update(test_result=test_result, tried=tried)
    record.write()
    return record
