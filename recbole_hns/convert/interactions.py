"""Interactions on their way from one format to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import PARTS

#: Groups of users that are worked on one after the other, to use less memory than for all at once.
GROUPS = 16


@dataclass
class Interactions:
    """Which users and items belong together, as codes of their ids.

    Attributes:
        user: ``[n]``, int32, codes.
        item: ``[n]``, int32, codes.
        user_ids: the id of each code.
        item_ids: the id of each code.
        fields: further numbers, each ``[n]``, float64, by RecBole's name of the field.
        part: ``[n]``, int8, the index of the source's part, of train, valid, test; None if it has
            no parts.
        columns: the source's name of the column of ``user``, ``item`` and each field.
        other_columns: names of the source's columns that are in none of these.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    user_ids: Sequence[str | int]
    item_ids: Sequence[str | int]
    fields: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    part: NDArray[np.int8] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    other_columns: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.user)

    def drop_repeats(self) -> int:
        """Keep the first interaction of every pair of a user and an item.

        Returns:
            How many were dropped.
        """
        first = np.ones(len(self), dtype=np.bool_)
        for rows in some_users_each(self.user):
            key = self.user[rows].astype(np.int64) * len(self.item_ids) + self.item[rows]
            first[rows] = False
            first[rows[np.unique(key, return_index=True)[1]]] = True
        self._keep(first)
        return len(first) - len(self)

    def drop_below(self, rating: float) -> int:
        """Keep the interactions of this rating or a higher one, of those that have ratings.

        Returns:
            How many were dropped.
        """
        high = self.fields["rating"] >= rating
        self._keep(high)
        return len(high) - len(self)

    def sort_by_time(self) -> None:
        """Order the interactions by time; those of the same time stay in their order."""
        self._keep(np.argsort(self.fields["timestamp"], kind="stable"))

    def _keep(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> None:
        # one array after the other, so that no more than one is there twice
        self.user, self.item = self.user[rows], self.item[rows]
        for name in self.fields:
            self.fields[name] = self.fields[name][rows]
        if self.part is not None:
            self.part = self.part[rows]


def parts(sizes: Mapping[str, int]) -> NDArray[np.int8] | None:
    """The part of each interaction, from the size of each part; None of what is no ready split."""
    if not sizes.keys() <= set(PARTS):
        return None
    return np.repeat(np.array([PARTS.index(key) for key in sizes], np.int8), [*sizes.values()])


def some_users_each(user: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Indices into ``user``, ``[n]``, in ascending order, all of a user's at once."""
    for group in range(GROUPS):
        yield np.flatnonzero(user % GROUPS == group)
