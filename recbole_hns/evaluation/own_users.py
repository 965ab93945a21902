"""The users of an evaluation batch that one of several workers ranks items for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_hns.ops import workers

Pairs = tuple[Tensor, Tensor] | None


def own_users(batch: tuple[Any, Pairs, Tensor, Tensor]) -> tuple[Any, Pairs, Tensor, Tensor]:
    """The part of a batch of RecBole's full ranking that is this worker's, renumbered.

    Args:
        batch: users, or sequences; row and item of each item of their histories; row and item of
            each positive.
    """
    if not workers.active():
        return batch
    users, history, row, item = batch
    own = workers.own_rows(row.new_empty(len(users)))
    assert isinstance(own, slice)
    if history is not None:
        history = _rows(own, *history)
    return users[own], history, *_rows(own, row, item)


def own_pairs(
    batch: tuple[Any, Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Any, Tensor | None, Tensor | None, Tensor | None]:
    """The part of a batch of pairs that is this worker's, all pairs of a user with it.

    Args:
        batch: pairs of a user and an item; the row of each one's user; row and item of each
            positive. Without rows, each pair is rated by itself.
    """
    if not workers.active():
        return batch
    pairs, row, positive_row, positive_item = batch
    if row is None or positive_row is None or positive_item is None:
        own = workers.own_rows(next(iter(pairs.interaction.values())))
        return pairs[own], row, positive_row, positive_item
    own = workers.own_rows(positive_row.new_empty(int(positive_row[-1]) + 1))
    assert isinstance(own, slice)
    kept = (row >= own.start) & (row < own.stop)
    return pairs[kept], row[kept] - own.start, *_rows(own, positive_row, positive_item)


def _rows(own: slice, row: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    kept = (row >= own.start) & (row < own.stop)
    return row[kept] - own.start, item[kept]
