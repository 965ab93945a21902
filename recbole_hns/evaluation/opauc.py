"""Partial AUC of each user, from the score matrix of an evaluation batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_hns.errors import UserError
from recbole_hns.ops import devices


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
    return Ranks.of(scores, user, item).norm_opauc(betas)


@torch.no_grad()
def norm_llpauc(
    scores: Tensor, user: Tensor, item: Tensor, alphas: Sequence[float], betas: Sequence[float]
) -> Tensor:
    """NormLLPAUC(alpha, beta) of each user (Shi et al., WWW 2024).

    With a user's n+ positives and n- negatives in falling order of their scores, the a-th positive
    weighs min(max(alpha n+ - (a - 1), 0), 1) and the b-th negative the same of beta n-::

        NormLLPAUC(alpha, beta) = 1 / (alpha n+ beta n-)
            sum_{a, b} w+_a w-_b ([r_a > r_b] + 0.5 [r_a = r_b])

    The sum over b is k = beta n- less what a positive misorders, as in :func:`norm_opauc`.

    Args:
        scores: as in :func:`norm_opauc`.
        user: as in :func:`norm_opauc`.
        item: as in :func:`norm_opauc`.
        alphas: true-positive rates, each in (0, 1].
        betas: the false-positive rate beside each of them, in (0, 1].

    Returns:
        ``[users, len(alphas)]``, float64; NaN for a user without positive or without negative.

    Raises:
        UserError: if a score is NaN.
    """
    return Ranks.of(scores, user, item).norm_llpauc(alphas, betas)


class Ranks(NamedTuple):
    """Where each positive stands among its user's negatives, from which any partial AUC follows.

    Attributes:
        user: row of each positive, ``[positives]``, int64.
        score: score of each positive, ``[positives]``.
        negatives: number of negatives of each user, ``[users]``, float64.
        above: negatives that score above each positive, ``[positives]``, float64.
        equal: negatives that score the same, ``[positives]``, float64.
    """

    user: Tensor
    score: Tensor
    negatives: Tensor
    above: Tensor
    equal: Tensor

    @classmethod
    def of(cls, scores: Tensor, user: Tensor, item: Tensor) -> Ranks:
        """The ranks of an evaluation batch; arguments and errors as of :func:`norm_opauc`."""
        _check_nan(scores)
        positive = scores[user, item]
        scores[user, item] = -torch.inf
        every = torch.arange(len(scores), device=scores.device)
        least = scores.new_full((len(scores),), -torch.inf)
        (negatives,) = _counts((torch.gt,), scores, every, least)
        above, equal = _counts((torch.gt, torch.eq), scores, user, positive)
        scores[user, item] = positive
        return cls(user, positive, negatives, above, equal)

    def norm_opauc(self, betas: Sequence[float]) -> Tensor:
        """NormOPAUC at each rate, ``[users, len(betas)]``."""
        k, misordered = self._misordered(betas)
        total = torch.zeros_like(k).index_add_(0, self.user, misordered)
        # 0 / 0 where there is no pair
        return 1 - total / (self._positives() * k)

    def norm_llpauc(self, alphas: Sequence[float], betas: Sequence[float]) -> Tensor:
        """NormLLPAUC at each pair of rates, ``[users, len(alphas)]``."""
        k, misordered = self._misordered(betas)
        first = self._positives() * k.new_tensor(alphas)
        weight = (first[self.user] - self._place().unsqueeze(1)).clamp(0, 1)
        total = torch.zeros_like(k).index_add_(0, self.user, weight * misordered)
        return 1 - total / (first * k)

    def _misordered(self, betas: Sequence[float]) -> tuple[Tensor, Tensor]:
        """For each rate k of each user, and what each positive misorders of these negatives."""
        k = self.negatives.unsqueeze(1) * self.negatives.new_tensor(betas)
        above, equal = self.above.unsqueeze(1), self.equal.unsqueeze(1)
        # a positive at minus infinity equals what is excluded, but then k - above <= 0
        tied = torch.minimum((k[self.user] - above).clamp(min=0), equal)
        return k, torch.minimum(above, k[self.user]) + 0.5 * tied

    def _positives(self) -> Tensor:
        return torch.bincount(self.user, minlength=len(self.negatives)).unsqueeze(1)

    def _place(self) -> Tensor:
        """Positives of its user before each one, from the highest score, ``[positives]``."""
        order = self.score.argsort(descending=True)
        order = order[self.user[order].argsort(stable=True)]
        count = self._positives().squeeze(1)
        start = (count.cumsum(0) - count)[self.user[order]]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - start
        return place


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
    size = max(1, devices.pairs_at_once(scores) // items)
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
