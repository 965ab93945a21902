"""The score of each row that is nearest to a target."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads


def nearest(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Column of the score that is nearest to each row's target, the first where two are as near.

    A target outside the scores is nearest to the outermost of them; moved there it chooses the
    same one, and rounding cannot make a huge target equally far from all.

    Args:
        scores: ``[B, N]``, without gradient; minus infinity is no score of its row, if others are.
        target: ``[B, 1]``.

    Returns:
        Columns, ``[B, 1]``, int64, and which targets were moved, ``[B, 1]``, bool.
    """
    if devices.by_kernel(scores) and target.dtype == scores.dtype:
        columns = torch.empty(target.shape, dtype=torch.int64)
        moved = torch.empty(target.shape, dtype=torch.bool)
        arrays = (each.view(-1).numpy() for each in (target.contiguous(), columns, moved))
        rows = 2 * scores.numel() // threads.NUMBERS
        threads.over_rows(kernels.nearest_columns, rows, scores.numpy(), *arrays)
        return columns, moved
    highest = scores.amax(dim=1, keepdim=True)
    lowest = torch.where(scores > -torch.inf, scores, torch.inf).amin(dim=1, keepdim=True)
    inside = target.minimum(highest).maximum(lowest)
    return (scores - inside).abs().argmin(dim=1, keepdim=True), inside != target
