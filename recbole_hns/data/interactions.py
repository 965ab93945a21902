"""The items that each user has interacted with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from recbole_hns.data.sequences import Sequences, ranges

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset


class UsedItems:
    """The items each user has interacted with, as sorted rows of a CSR matrix.

    Memory is proportional to the interactions. Indexing with a user gives a Python set, made when
    asked for, because RecBole's own evaluation data loaders expect one.

    Attributes:
        offset: ``[user_num + 1]``, int64; the items of user ``u`` are
            ``item[offset[u]:offset[u + 1]]``.
        item: ``[nnz]``, int64, ascending and without repeats within a user.
        pair: ``[nnz]``, int64, ascending: ``user * item_num + item``.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, user_num: int, item_num: int) -> None:
        self._item_num = item_num
        pair = user.astype(np.int64) * item_num + item
        pair.sort()
        repeats = pair[1:] == pair[:-1]
        # seldom: to drop none would be two more passes
        self.pair = np.delete(pair, 1 + np.flatnonzero(repeats)) if repeats.any() else pair
        self.item = self.pair % item_num
        self.offset = np.zeros(user_num + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.pair // item_num, minlength=user_num), out=self.offset[1:])

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, user: int | None) -> set[int]:
        if user is None:  # RecBole's loader asks for the user before the first
            return set()
        return set(self.item[self.offset[user] : self.offset[user + 1]].tolist())

    def __iter__(self) -> Iterator[set[int]]:
        return (self[user] for user in range(len(self)))

    @cached_property
    def user(self) -> np.ndarray:
        """``[nnz]``, int64: the user of each entry of :attr:`item`."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    @cached_property
    def by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """The users of each item, of the padding item all, as rows of a CSR matrix.

        Returns:
            ``offset``, ``[item_num + 1]``, int64, and the users, int32.
        """
        count = np.bincount(self.item, minlength=self._item_num)
        count[0] = len(self)
        user = self.user[stable_order(self.item)]
        users = np.concatenate([np.arange(len(self)), user]).astype(np.int32)
        return np.append(0, np.cumsum(count)), users


def stable_order(values: np.ndarray) -> np.ndarray:
    """``np.argsort(values, kind="stable")``, in a third to a tenth of its time for whole numbers.

    Args:
        values: ``[n]``, numbers.

    Returns:
        ``[n]``, int64.
    """
    size = len(values)
    if not size:
        return np.empty(0, dtype=np.int64)
    if values.dtype.kind == "f":  # whose differences are exact below
        values = values.astype(np.float64, copy=False)
    least, bits = values.min(), size.bit_length()
    span = values.max().item() - least.item()
    # not with NaN or infinity, either
    short = span < 2 ** min(62 - bits, 53)
    if not short or (values.dtype.kind == "f" and (values != np.floor(values)).any()):
        return np.argsort(values, kind="stable")
    # sorted with their places behind them, numbers have the order of a stable sort
    key = (values - least).astype(np.int64)
    key <<= bits
    key |= np.arange(size)
    key.sort()
    key &= (1 << bits) - 1
    return key


def pairs(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """User and item of every interaction of a data set, those among them that are no rows.

    Of sequences a user's first interaction is none, as there is nothing to tell it by.
    """
    feat = dataset.inter_feat
    fields = dataset.uid_field, dataset.iid_field
    columns = map(feat.every if isinstance(feat, Sequences) else feat.__getitem__, fields)
    user, item = (column.numpy() for column in columns)
    return user, item


def rows(offset: Tensor, item: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a CSR matrix, one after the other.

    Args:
        offset: ``[user_num + 1]``, int64; row ``u`` is ``item[offset[u]:offset[u + 1]]``.
        item: ``[nnz]``.
        user: which rows, ``[batch]``, int64.

    Returns:
        For every entry of these rows, the index of its row in ``user``, int64, and its ``item``.
    """
    start = offset[user]
    row, entry = ranges(start, offset[user + 1] - start)
    return row, item[entry]
