"""The split of a data set, as the protocol has it."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

import torch
from recbole.data.interaction import cat_interactions

from recbole_hns.data.sequences import Sequences

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_hns.data.dataset import Dataset


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


def of_some_users(part: Dataset, num: int | None, seed: int) -> Dataset:
    """The interactions of a part that are those of some users, drawn at random.

    Args:
        part: the part.
        num: how many users; None, or more than there are, for all.
        seed: what decides who, together with who has an interaction.
    """
    if num is None:
        return part
    user = part.inter_feat[part.uid_field]
    users = torch.unique(user)
    drawn = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))[:num]
    chosen = torch.zeros(part.user_num, dtype=torch.bool)
    chosen[users[drawn]] = True
    kept = chosen[user].nonzero().squeeze(1)
    some = part.of_rows(kept)
    some.eval_users = num
    getLogger().info(f"Validation is of {min(num, len(users))} of {len(users)} users")
    return some


def _joined(parts: list[Dataset]) -> Dataset:
    if len(parts) == 1:
        return parts[0]
    feats = [part.inter_feat for part in parts]
    join = Sequences.joined if isinstance(feats[0], Sequences) else cat_interactions
    return parts[0].copy(join(feats))
