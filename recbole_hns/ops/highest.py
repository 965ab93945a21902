"""The highest scores of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads


def highest(scores: Tensor, num: int | Tensor) -> Tensor:
    """Columns of the highest scores of each row, in no particular order.

    Args:
        scores: ``[B, N]``, without gradient; NaN is above all numbers.
        num: how many, from 1 to N; of each row, ``[B]``, int64, where it differs.

    Returns:
        ``[B, M]``, int64, M being ``num`` or the largest of them. After its own ``num``, a row has
        any columns.
    """
    width = num if isinstance(num, int) else int(num.max())
    if not devices.by_kernel(scores):
        return scores.topk(width, dim=1, sorted=isinstance(num, Tensor)).indices
    columns = torch.zeros(len(scores), width, dtype=torch.int64)
    if isinstance(num, int):
        num = torch.full((len(scores),), num)
    maximum = scores.amax(dim=1).nan_to_num(torch.finfo(scores.dtype).max)
    arrays = (each.numpy() for each in (scores, maximum, num, columns))
    # each number is looked at some ten times
    rows = 10 * scores.numel() // threads.NUMBERS
    threads.over_rows(kernels.highest_columns, rows, *arrays)
    return columns
