"""Seconds per epoch and peak memory of every entry, side by side, and seconds per stage."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from recbole_hns.benchmark.memory import PeakMemory
from recbole_hns.benchmark.training import Training, clock
from recbole_hns.model.base import replaced

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_hns.benchmark.entries import Entry

#: The parts of an epoch. ``propagate`` is what a graph model computes once a step, and
#: ``loss_and_backward`` is all that is in none of the others, shuffling too.
STAGES = ("draw", "propagate", "score", "select", "loss_and_backward", "optimiser")


@dataclass
class Timing:
    """What was measured of an entry.

    Attributes:
        entry: the entry.
        seconds: of every timed epoch.
        peak_memory: bytes, as :class:`PeakMemory` has them, from making the data loaders to the
            end of the warm-up epoch: data loaders, model, optimiser and training.
        interactions: positives in an epoch.
        stages: seconds of each of :data:`STAGES` in one epoch; empty for RecBole's own training.
        score_rate: bytes per second of the embeddings that the scoring stage has to read: a user's
            and an item's for each score, the user's once for all of them.
    """

    entry: Entry
    seconds: list[float] = field(default_factory=list)
    peak_memory: int = 0
    interactions: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    score_rate: float | None = None

    @property
    def median(self) -> float:
        """Median of :attr:`seconds`."""
        return median(self.seconds)


def time_epochs(entries: Sequence[Entry], dataset: Dataset, rounds: int) -> list[Timing]:
    """Time training epochs of all entries, interleaved: one epoch of each, ``rounds`` times.

    Before, each entry trains a warm-up epoch, during which memory is measured; after, each sampler
    trains one more, in which the stages are timed.

    Args:
        entries: the entries.
        dataset: their data set, filtered, not split.
        rounds: timed epochs of each.
    """
    timings = [Timing(entry) for entry in entries]
    trainings: list[Training] = []
    samplers = sum(entry.recbole is None for entry in entries)
    bar = tqdm(total=len(entries) * (1 + rounds) + samplers, unit="epoch", disable=None)
    with bar, ExitStack() as stack:
        loaders = None
        for timing in timings:
            bar.set_description(f"{timing.entry.label}, warm-up")
            with PeakMemory(timing.entry.config["device"]) as memory:
                training = Training(timing.entry, dataset)
                stack.callback(training.close)
                training.train_epoch()
            timing.peak_memory = memory.increase
            timing.interactions = len(training.train_data._dataset)
            if timing.entry.recbole is None:
                # from here on one set of loaders serves all samplers, to save memory
                loaders = loaders or (training.train_data, training.valid_data)
                training.train_data, training.valid_data = loaders
            trainings.append(training)
            bar.update()
        for number in range(rounds):
            for timing, training in zip(timings, trainings, strict=True):
                bar.set_description(f"{timing.entry.label}, round {number + 1}")
                gc.collect()
                timing.seconds.append(training.train_epoch())
                bar.update()
        for timing, training in zip(timings, trainings, strict=True):
            if timing.entry.recbole is None:
                bar.set_description(f"{timing.entry.label}, stages")
                timing.stages = stage_seconds(training)
                timing.score_rate = _score_rate(timing, dataset)
                bar.update()
    return timings


def _score_rate(timing: Timing, dataset: Dataset) -> float | None:
    """Bytes per second of the scoring stage.

    None for a model without embeddings of one size, and a sampler that scores by itself.
    """
    config = timing.entry.config
    if not config["embedding_size"] or not timing.stages["score"]:
        return None
    num = timing.entry.candidate_num or 1
    items = 1 + (dataset.item_num if num == "all" else num)
    rows = timing.interactions * (1 + items)
    return rows * config["embedding_size"] * 4 / timing.stages["score"]


def copy_rate(device: torch.device) -> float:
    """Bytes per second that a copy within the device's memory reads and writes, at its best.

    Args:
        device: where 256 MiB are copied, ten times.
    """
    source = torch.zeros(2**26, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    now = clock(device)
    seconds = []
    for _ in range(10):
        start = now()
        target.copy_(source)
        seconds.append(now() - start)
    return 2 * source.nbytes / min(seconds)


def stage_seconds(training: Training) -> dict[str, float]:
    """Train one epoch of a sampler and time its stages.

    On CUDA the device is waited for at both ends of a stage, so an epoch takes longer than one that
    is not watched.

    Returns:
        Seconds of each of :data:`STAGES`.
    """
    trainer, now = training.trainer, training.now
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = now()
            result = method(*args, **kwargs)
            spent[stage] += now() - start
            return result

        return call

    encode = trainer.adapter.encode

    @contextmanager
    def timed_encode(*args: Any) -> Iterator[Any]:
        with ExitStack() as inside:
            start = now()
            encoded = inside.enter_context(encode(*args))
            spent["propagate"] += now() - start
            if hasattr(encoded, "score"):
                encoded.score = timed(encoded.score, "score")
            yield encoded

    with ExitStack() as stack:
        for target, name, stage in (
            (trainer.sampler, "propose", "draw"),
            (trainer.sampler, "shared_items", "draw"),
            (trainer.sampler, "select", "select"),
            (trainer.optimizer, "zero_grad", "optimiser"),
            (trainer.optimizer, "step", "optimiser"),
        ):
            stack.enter_context(replaced(target, name, timed(getattr(target, name), stage)))
        stack.enter_context(replaced(trainer.adapter, "encode", timed_encode))
        total = training.train_epoch()
    spent["loss_and_backward"] = total - sum(spent.values())
    return spent
