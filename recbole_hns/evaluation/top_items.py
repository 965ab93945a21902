"""The items with the highest scores, from products of which only a block is kept at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_hns.ops import kernels, threads

Ids = NDArray[np.int64]
Block = tuple[int, Tensor]

#: Users of each thread, and items, of a block of scores, which stays in a CPU's cache.
USERS, ITEMS = 512, 1024

#: Columns that matrix products take together: blocks that begin with a multiple of it have, to the
#: last bit, the scores that the product of all items has.
TOGETHER = 16


class TopItems(NamedTuple):
    """In place of a score matrix, what metrics of the first K items need of it.

    Attributes:
        items: the items with the highest scores of each user, in PyTorch's order, ``[users, k]``.
        shape: numbers of users and of items.
    """

    items: Tensor
    shape: tuple[int, int]


def score_blocks(queries: Tensor, items: Tensor) -> Iterator[Block]:
    """Inner products of all queries with all items, the padding item 0 at minus infinity.

    Args:
        queries: ``[B, dim]``, on the CPU and without gradient.
        items: ``[item_num, dim]``, likewise.

    Yields:
        The first item of a block and the scores, ``[B, n]``, which the next block overwrites.
    """
    num = -(-len(items) // ITEMS)
    bounds = {len(items) * block // num // TOGETHER * TOGETHER for block in range(num)}
    buffer = queries.new_empty(len(queries) * (ITEMS + TOGETHER))
    for first, end in pairwise([*sorted(bounds), len(items)]):
        scores = buffer[: len(queries) * (end - first)].view(len(queries), end - first)
        torch.mm(queries, items[first:end].t(), out=scores)
        if not first:
            scores[:, 0] = -torch.inf
        yield first, scores


def highest_of_blocks(
    blocks: Iterable[Block], row: Ids, offset: Ids, known: Ids, k: int
) -> tuple[NDArray[np.floating], Ids]:
    """The highest scores of each list and their items, without the known ones.

    Items of equal score are in the order of their ids; NaN is left out.

    Args:
        blocks: first item and scores, ``[B, n]``, of some items at a time.
        row: row of each list among those of ``offset``, ``[B]``.
        offset: the known items of row ``r`` are ``known[offset[r]:offset[r + 1]]``, ascending.
        known: see there.
        k: how many.

    Returns:
        Scores and items, ``[B, k]``; minus infinity and 0 where fewer are left.
    """
    best: NDArray[np.floating] | None = None
    item = np.zeros((len(row), k), np.int64)
    for first, scores in blocks:
        values = scores.numpy()
        if best is None:
            best = np.full((len(row), k), -np.inf, values.dtype)
        lists = values, row, best, item
        rows = values.size // threads.NUMBERS
        threads.over_rows(kernels.add_highest, rows, *lists, whole=[first, offset, known])
    assert best is not None
    return best, item


class Ranking:
    """The first items of users' rankings by inner products, as ``torch.topk`` of all scores.

    Args:
        users: embeddings of all users, ``[user_num, dim]``, of a type that the kernels take.
        items: embeddings of all items, ``[item_num, dim]``.
        k: how many of each user.
    """

    def __init__(self, users: Tensor, items: Tensor, k: int) -> None:
        self._users, self._items, self._k = users.detach(), items.detach(), k

    @classmethod
    def of(cls, users: Tensor, items: Tensor, k: int) -> Ranking | None:
        """The ranking; None where a score may be NaN, which ``torch.topk`` has first."""
        highest = float(users.detach().abs().max()) * float(items.detach().abs().max())
        # not so with NaN, either
        bounded = highest * items.shape[1] < torch.finfo(items.dtype).max
        return cls(users, items, k) if bounded else None

    def top(self, user: Tensor, row: Tensor, item: Tensor) -> TopItems:
        """The first items of some users, those that are not to be ranked and item 0 behind.

        Args:
            user: ``[B]``.
            row: row of each item that is not to be ranked, ``[n]``.
            item: these items.
        """
        parts = -(-len(user) // (USERS * threads.number()))
        bounds = [len(user) * part // parts // TOGETHER * TOGETHER for part in range(parts)]
        bounds.append(len(user))
        key = (row * len(self._items) + item).sort().values
        ends = torch.searchsorted(key, torch.tensor(bounds) * len(self._items)).tolist()
        tops = [
            self._top(user[start:end], key[left:right] - start * len(self._items))
            for (start, end), (left, right) in zip(pairwise(bounds), pairwise(ends), strict=True)
        ]
        return TopItems(torch.cat(tops), (len(user), len(self._items)))

    def _top(self, user: Tensor, key: Tensor) -> Tensor:
        """The first items, ``key`` being ``row * item_num + item``, ascending."""
        queries, item_num = self._users.index_select(0, user), len(self._items)
        row, item = key // item_num, key % item_num
        offset = torch.searchsorted(row, torch.arange(len(user) + 1)).numpy()
        lists = np.arange(len(user))
        blocks = score_blocks(queries, self._items)
        # one more, to see whether the last is alone with its score
        best, top = highest_of_blocks(blocks, lists, offset, item.numpy(), self._k + 1)
        found = torch.from_numpy(top[:, : self._k])
        tied = torch.from_numpy((best[:, 1:] == best[:, :-1]).any(axis=1)).nonzero().squeeze(1)
        if len(tied):
            blocks = score_blocks(queries, self._items)
            scores = torch.cat([block[tied] for _, block in blocks], dim=1)
            place = torch.full((len(user),), -1).index_copy_(0, tied, torch.arange(len(tied)))[row]
            scores[place[place >= 0], item[place >= 0]] = -torch.inf
            found[tied] = scores.topk(self._k, dim=1).indices
        return found
