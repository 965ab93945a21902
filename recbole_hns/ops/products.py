"""Inner products of all queries with all of some items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_hns.ops import devices


def products(
    query: Tensor, item_e: Tensor, known: Tensor, excluded: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Scores that are known already, made differentiable.

    Args:
        query: ``[B, dim]``.
        item_e: ``[N, dim]``.
        known: ``query @ item_e.t()``, but for what is excluded, ``[B, N]``. It is not copied.
        excluded: row and column of scores that have no gradient, whatever the loss makes of them.

    Returns:
        ``known``, differentiable in query and items.
    """
    return _Products.apply(query, item_e, known, excluded)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        item_e: Tensor,
        known: Tensor,
        excluded: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        ctx.save_for_backward(query, item_e)
        ctx.excluded = excluded
        return known.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, item_e = ctx.saved_tensors
        excluded = ctx.excluded
        # most losses leave them at 0, which is soon seen on a CPU and spares a copy
        if excluded is not None and (not devices.on_cpu(grad) or grad[excluded].any()):
            grad = grad.index_put(excluded, grad.new_tensor(0.0))
        # with mixed precision, scores have a shorter type than the tables
        return grad @ item_e.to(grad.dtype), grad.t() @ query.to(grad.dtype), None, None
