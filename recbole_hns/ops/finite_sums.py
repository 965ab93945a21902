"""Sums of scores of which some are excluded."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads


def finite_sums(scores: Tensor) -> Tensor:
    """Sum of each row, minus infinity left out, without a copy of the scores.

    Args:
        scores: ``[B, N]``, without gradient.

    Returns:
        ``[B]``.
    """
    if not devices.by_kernel(scores):
        return torch.where(scores == -torch.inf, 0, scores).sum(dim=1)
    sums = scores.new_empty(len(scores))
    rows = scores.numel() // threads.NUMBERS
    threads.over_rows(kernels.finite_sums, rows, scores.numpy(), sums.numpy())
    return sums
