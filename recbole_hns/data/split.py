"""The split of a data set, as the protocol has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.data.interaction import cat_interactions

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset


def split(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """The training, validation and test part of a data set, as the protocol has them.

    ``paper`` trains on all but the test part, a validation part included, and returns the test part
    in place of the validation part too, as the same object. ``all`` trains on every part, and has
    no other.
    """
    if config["protocol"] == "valid":
        train, valid, test = dataset.build()
        return train, valid, test
    *others, test = dataset.build()
    files = config["benchmark_filename"]
    if files:
        # some who select on test name it twice
        others = [part for part, file in zip(others, files, strict=False) if file != files[-1]]
    if config["protocol"] == "all":
        return _joined([*others, test]), None, None
    return _joined(others), test, test


def _joined(parts: list[Dataset]) -> Dataset:
    if len(parts) == 1:
        return parts[0]
    return parts[0].copy(cat_interactions([part.inter_feat for part in parts]))
