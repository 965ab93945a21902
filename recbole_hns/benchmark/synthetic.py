"""Power-law data of any size, as a RecBole data set that is split into training and test part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_hns.errors import UserError

#: How fast activity of users and popularity of items fall with their rank.
USER_EXPONENT = 0.6
ITEM_EXPONENT = 0.9

#: Fraction of the interactions that goes to the test part, as far as users and items allow.
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Sizes:
    """Sizes of a synthetic data set: numbers of users, of items and of interactions in all."""

    users: int
    items: int
    interactions: int

    def __post_init__(self) -> None:
        """Check that every user and item can have an interaction, and that pairs stay distinct.

        Raises:
            UserError: if there are too few interactions, or more than half of all pairs.
        """
        fewest, most = max(self.users, self.items), self.users * self.items // 2
        if not fewest <= self.interactions <= most:
            value = f"{self.users},{self.items},{self.interactions}"
            allowed = f"interactions must be >= {fewest}, one for each user and item, and <= {most}"
            raise UserError.of("synthetic", value, f"{allowed}, half of all pairs")

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"synthetic-{self.users}-{self.items}-{self.interactions}"


def write_synthetic(sizes: Sizes, seed: int, folder: Path) -> dict[str, Any]:
    """Write the data set into ``folder``; the same sizes and seed give the same files.

    Returns:
        The config keys with which RecBole reads it. The test part serves for validation too.
    """
    user, item, is_test = synthetic_pairs(sizes, seed)
    directory = folder / sizes.name
    directory.mkdir()
    table = pd.DataFrame({"user_id:token": user, "item_id:token": item})
    for part, rows in (("train", ~is_test), ("test", is_test)):
        table[rows].to_csv(directory / f"{sizes.name}.{part}.inter", sep="\t", index=False)
    return {
        "dataset": sizes.name,
        "data_path": str(folder),
        "benchmark_filename": ["train", "test", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "field_separator": "\t",
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
    }


def synthetic_pairs(
    sizes: Sizes, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Distinct user-item pairs, in random order.

    Each is drawn with probability proportional to r_u^-0.6 r_i^-0.9 among those not drawn yet, r_u
    and r_i being the ranks of user and item. Every user and item has a pair in the training part,
    and every user has an item left that is in no pair.

    Returns:
        User, item, and whether the pair is of the test part, each ``[interactions]``.
    """
    users, items, interactions = sizes.users, sizes.items, sizes.interactions
    rng = np.random.default_rng(seed)
    # ids are shuffled ranks, so that what follows may go by ids
    user_of, item_of = rng.permutation(users), rng.permutation(items)
    user_mass = np.cumsum(np.arange(1, users + 1) ** -USER_EXPONENT)
    item_mass = np.cumsum(np.arange(1, items + 1) ** -ITEM_EXPONENT)

    # with these, no user or item is without
    first = np.arange(max(users, items))
    covering = np.sort(first % users * items + first % items)
    keys = covering
    while len(keys) < interactions:
        missing = interactions - len(keys)
        draws = missing + missing // 4 + 1000
        user = user_of[np.searchsorted(user_mass, rng.random(draws) * user_mass[-1])]
        item = item_of[np.searchsorted(item_mass, rng.random(draws) * item_mass[-1])]
        # the item that stays in no pair with this user: not one of its covering pairs
        key = (user * items + item)[item != (user + 1) % items]
        new = np.setdiff1d(key, keys)
        if len(new) > missing:
            new = rng.choice(new, missing, replace=False, shuffle=False)
        keys = np.sort(np.concatenate([keys, new]))

    keys = rng.permutation(keys)
    may_be_test = np.flatnonzero(~np.isin(keys, covering))
    is_test = np.zeros(interactions, dtype=np.bool_)
    is_test[may_be_test[: round(TEST_SHARE * interactions)]] = True
    return keys // items, keys % items, is_test
