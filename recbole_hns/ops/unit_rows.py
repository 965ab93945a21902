"""Rows scaled to length 1, in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
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
    if not devices.by_kernel(rows):
        return F.normalize(rows, dim=1, eps=smallest)
    return _UnitRows.apply(rows, smallest)


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, smallest: float) -> Tensor:
        rows = rows.contiguous()
        found, length = torch.empty_like(rows), rows.new_empty(len(rows))
        ctx.smallest = smallest
        arrays = (each.numpy() for each in (rows, found, length))
        threads.over_rows(kernels.unit_rows, len(rows), *arrays, whole=[smallest])
        ctx.save_for_backward(found, length)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        found, length = ctx.saved_tensors
        into = torch.empty_like(found)
        arrays = (each.numpy() for each in (found, length, grad.contiguous(), into))
        threads.over_rows(kernels.unit_rows_gradient, len(found), *arrays, whole=[ctx.smallest])
        return into, None
