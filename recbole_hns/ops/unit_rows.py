"""Rows scaled to length 1, in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads


def unit_rows(rows: Tensor, smallest: float) -> Tensor:
    """Rows over their length, or over ``smallest`` where they are shorter.

    Args:
        rows: ``[B, dim]``.
        smallest: > 0.

    Returns:
        ``[B, dim]``, as ``F.normalize``, of which autograd takes a dozen passes.
    """
    return _UnitRows.apply(rows, smallest)


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, smallest: float) -> Tensor:
        ctx.smallest = smallest
        if not devices.by_kernel(rows):
            length = rows.norm(dim=1, keepdim=True)
            found = rows / length.clamp(min=smallest)
            ctx.save_for_backward(found, length)
            return found
        rows = rows.contiguous()
        found, length = torch.empty_like(rows), rows.new_empty(len(rows))
        arrays = (each.numpy() for each in (rows, found, length))
        threads.over_rows(kernels.unit_rows, len(rows), *arrays, whole=[smallest])
        ctx.save_for_backward(found, length)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        found, length = ctx.saved_tensors
        if not devices.by_kernel(found):
            # what is shorter than the shortest is scaled, no more
            along = (found * grad).sum(dim=1, keepdim=True) * (length > ctx.smallest)
            return (grad - found * along) / length.clamp(min=ctx.smallest), None
        into = torch.empty_like(found)
        arrays = (each.numpy() for each in (found, length, grad.contiguous(), into))
        threads.over_rows(kernels.unit_rows_gradient, len(found), *arrays, whole=[ctx.smallest])
        return into, None
