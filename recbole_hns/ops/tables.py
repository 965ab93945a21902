"""Embedding tables whose gradient is added up in place, alone and as the layers of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads
from recbole_hns.ops.list_scores import list_scores


class Table(NamedTuple):
    """Embeddings whose gradient is added up in place.

    Indexing would make another table of zeros in every backward pass, of which most stay zeros.

    Attributes:
        values: ``[rows, dim]``.
        source: a tensor that requires gradient and that the values are computed from, perhaps the
            values themselves.
        grad: ``[rows, dim]``, takes the gradient in place, and ``source`` gets none; None leaves
            the gradient to autograd, which ``values`` must be part of.
    """

    values: Tensor
    source: Tensor
    grad: Tensor | None

    @classmethod
    def of(cls, values: Tensor) -> Table:
        """A tensor's table, in place where it is a leaf with ``grad`` set."""
        return cls(values, values, values.grad if values.is_leaf else None)


def look_up(tables: Sequence[Table], ids: Sequence[Tensor]) -> Tensor:
    """Rows of several tables at once.

    Args:
        tables: H of them, of one source or of one each.
        ids: of each table, ``[batch]``, int64.

    Returns:
        ``[H, batch, dim]``.
    """
    if tables[0].grad is None:
        rows = [table.values.index_select(0, each) for table, each in zip(tables, ids, strict=True)]
        return torch.stack(rows)
    return _LookUp.apply(tables[0].source, tables, ids)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, tables: Sequence[Table], ids: Sequence[Tensor]) -> Tensor:
        ctx.tables, ctx.ids = tables, ids
        rows = tables[0].values.new_empty(len(tables), len(ids[0]), tables[0].values.shape[1])
        for row, table, each in zip(rows, tables, ids, strict=True):
            torch.index_select(table.values, 0, each, out=row)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        for table, each, rows in zip(ctx.tables, ctx.ids, grad.contiguous(), strict=True):
            if devices.on_cpu(rows):
                arrays = table.grad.numpy(), each.numpy(), rows.numpy()
                threads.in_shares(len(each), partial(kernels.add_rows, *arrays))
            else:
                table.grad.index_add_(0, each, rows)
        return None, None, None


class Layers(NamedTuple):
    """Embeddings of all users and items at each of H layers.

    Layer 0 is what is learned. A score is the inner product of a user's and an item's means over
    the layers.

    Attributes:
        user: H tables, ``[user_num, dim]``.
        item: H tables, ``[item_num, dim]``.
    """

    user: tuple[Table, ...]
    item: tuple[Table, ...]

    def users(self, user: Tensor) -> Tensor:
        """Rows of users, ``[batch]``, at every layer: ``[H, batch, dim]``."""
        return look_up(self.user, [user] * len(self.user))

    def items(self, items: Tensor) -> Tensor:
        """Rows of items, ``[batch, N]``, at every layer: ``[H, batch, N, dim]``."""
        rows = look_up(self.item, [items.reshape(-1)] * len(self.item))
        return rows.view(len(rows), *items.shape, rows.shape[2])

    def pairs(self, pos_item: Tensor, picked: Tensor) -> Tensor:
        """Rows of positives, and of the item that was picked at each layer.

        Args:
            pos_item: ``[batch]``, int64.
            picked: ``[H, batch]``, int64.

        Returns:
            ``[H, 2, batch, dim]``.
        """
        rows = look_up(self.item, [torch.cat([pos_item, items]) for items in picked])
        return rows.view(len(rows), 2, len(pos_item), rows.shape[2])

    def scores(self, user_e: Tensor, items: Tensor | None) -> Tensor:
        """Inner products of one vector a user with items at every layer.

        Args:
            user_e: ``[batch, dim]``.
            items: ``[batch, N]``, int64; None for all items.

        Returns:
            ``[H, batch, N]``.
        """
        if items is None:
            return torch.stack([user_e @ table.values.t() for table in self.item])
        return torch.stack([list_scores(user_e, table.values, items) for table in self.item])
