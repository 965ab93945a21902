"""One-way partial AUC of each user, from the score matrix of an evaluation batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recbole_hns.errors import UserError

#: Scores compared at a time: few enough for a CPU's cache, many enough for any other device.
COMPARED_CPU, COMPARED = 2**18, 2**24


@torch.no_grad()
def norm_opauc(scores: Tensor, user: Tensor, item: Tensor, betas: Sequence[float]) -> Tensor:
    """NormOPAUC(beta) of each user (HNS paper, section 3.1).

    With k = beta * n- and T the k highest-scored negatives, of which the last counts with the
    remaining fraction where k is not whole::

        NormOPAUC(beta) = 1 - sum_{i positive, j in T} ([r_i < r_j] + 0.5 [r_i = r_j]) / (n+ * k)

    If g negatives score above a positive and e the same, the first g negatives of the ranking are
    misordered and the next e half so; of these, T holds min(g, k) and min(max(k - g, 0), e). Two
    counts for each positive thus serve every beta, and nothing is sorted: the cost is that of
    comparing a user's scores with each of the user's positives.

    Args:
        scores: ``[users, items]``. An item that is neither positive nor negative scores minus
            infinity. Changed meanwhile, and restored.
        user: row of each positive, ``[positives]``, int64.
        item: column of each positive, ``[positives]``, int64; no pair twice. A positive that
            scores minus infinity ranks below every negative.
        betas: false-positive rates, each in (0, 1].

    Returns:
        ``[users, len(betas)]``, float64; NaN for a user without positive or without negative.

    Raises:
        UserError: if a score is NaN, as after training that diverged.
    """
    _check_nan(scores)
    positive = scores[user, item]
    scores[user, item] = -torch.inf
    every = torch.arange(len(scores), device=scores.device)
    (negatives,) = _counts((torch.gt,), scores, every, scores.new_full((len(scores),), -torch.inf))
    above, equal = _counts((torch.gt, torch.eq), scores, user, positive).unsqueeze(2)
    scores[user, item] = positive

    k = negatives.unsqueeze(1) * torch.tensor(betas, dtype=torch.float64, device=scores.device)
    # a positive at minus infinity equals what is excluded, but then k - above <= 0
    tied = torch.minimum((k[user] - above).clamp(min=0), equal)
    misordered = torch.minimum(above, k[user]) + 0.5 * tied
    total = torch.zeros_like(k).index_add_(0, user, misordered)
    positives = torch.bincount(user, minlength=len(scores)).unsqueeze(1)
    # 0 / 0 where there is no pair
    return 1 - total / (positives * k)


def _check_nan(scores: Tensor) -> None:
    # a row's maximum is NaN if any of its scores is
    if scores.amax(dim=1).isnan().any():
        nan = scores.isnan()
        raise UserError(
            f"OPAUC is undefined: {int(nan.sum())} scores are NaN, of {int(nan.any(dim=1).sum())} "
            f"users in an evaluation batch of {len(nan)}"
        )


def _counts(
    comparisons: Sequence[Callable[..., Tensor]], scores: Tensor, row: Tensor, limit: Tensor
) -> Tensor:
    """How many scores of a row compare so with a limit.

    Args:
        comparisons: such as ``torch.gt``, the score being its first argument.
        scores: ``[users, items]``.
        row: ``[limits]``, int64.
        limit: ``[limits]``.

    Returns:
        ``[len(comparisons), limits]``, float64.
    """
    items = scores.shape[1]
    size = max(1, (COMPARED_CPU if scores.device.type == "cpu" else COMPARED) // items)
    # Sums of floats are vectorised where sums of booleans are not, and float32 holds whole numbers
    # up to 2**24.
    dtype = torch.float32 if items < 2**24 else torch.float64
    # reused, as fresh memory would cost more than the comparisons
    chunk = scores.new_empty(size, items)
    buffer = torch.empty(size, items, dtype=dtype, device=scores.device)
    counts = torch.empty(len(comparisons), len(row), dtype=torch.float64, device=scores.device)
    for rows, limits, parts in zip(
        row.split(size), limit.unsqueeze(1).split(size), counts.split(size, dim=1), strict=True
    ):
        listed, holds = chunk[: len(rows)], buffer[: len(rows)]
        torch.index_select(scores, 0, rows, out=listed)
        for compare, part in zip(comparisons, parts, strict=True):
            compare(listed, limits, out=holds)
            part.copy_(holds.sum(dim=1))
    return counts
