"""Time to quality: how long each entry trains until validation reaches a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from recbole_hns.benchmark.training import Training
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_hns.benchmark.entries import Entry


@dataclass(frozen=True)
class Target:
    """A value of a validation metric, such as ``NDCG@20:0.065``."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``METRIC:VALUE``.

        Raises:
            UserError: if it is not that.
        """
        metric, _, value = text.rpartition(":")
        name, at, k = metric.partition("@")
        try:
            number = float(value)
        except ValueError:
            name = ""
        if not name or (at and not (k.isdecimal() and int(k))) or not abs(number) < float("inf"):
            raise UserError.of("until", text, "must be METRIC:VALUE, such as NDCG@20:0.065")
        return cls(metric, number)

    def config_keys(self) -> dict[str, Any]:
        """Config keys with which validation computes this metric, unrounded, and no other."""
        name, at, k = self.metric.partition("@")
        keys: dict[str, Any] = {"metrics": [name], "valid_metric": self.metric}
        if at:
            keys["topk"] = [int(k)]
        return {**keys, "metric_decimal_place": 12}


@dataclass
class Curve:
    """How an entry went towards the target.

    Attributes:
        entry: the entry.
        reached: whether validation reached the target.
        epochs: of each evaluation, the epochs trained by then.
        train_seconds: of each evaluation, the training seconds by then.
        values: the metric at each evaluation.
        eval_seconds: of all evaluations together.
    """

    entry: Entry
    reached: bool = False
    epochs: list[int] = field(default_factory=list)
    train_seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    eval_seconds: float = 0.0


def train_until(
    entries: Sequence[Entry], dataset: Dataset, target: Target, max_seconds: float
) -> list[Curve]:
    """Train the entries, one after another, until validation reaches the target.

    Every ``eval_step`` of the config, an epoch ends with an evaluation. Neither ``epochs`` nor
    ``stopping_step`` ends the training.

    Args:
        entries: the entries, whose configs compute the metric.
        dataset: their data set, filtered, not split.
        target: where to stop.
        max_seconds: training seconds after which an entry gives up, once it is evaluated.
    """
    return [_train_until(entry, dataset, target, max_seconds) for entry in entries]


def _train_until(entry: Entry, dataset: Dataset, target: Target, max_seconds: float) -> Curve:
    curve = Curve(entry)
    bigger = entry.config["valid_metric_bigger"]
    training = Training(entry, dataset, eval_step=max(1, entry.config["eval_step"]))
    try:
        with tqdm(desc=entry.label, unit="epoch", disable=None) as bar:
            while not curve.reached and sum(training.train_seconds) < max_seconds:
                evaluated = len(training.valid_results)
                while len(training.valid_results) == evaluated:
                    training.train_epoch()
                    bar.update()
                value = training.valid_results[-1][target.metric.lower()]
                curve.epochs.append(len(training.train_seconds))
                curve.train_seconds.append(sum(training.train_seconds))
                curve.values.append(value)
                bar.set_postfix({target.metric: f"{value:.4f}"})
                curve.reached = bool(value >= target.value if bigger else value <= target.value)
    finally:
        training.close()
    curve.eval_seconds = sum(training.eval_seconds)
    return curve
