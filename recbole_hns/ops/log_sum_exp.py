"""The logarithm of a sum of exponentials over each row, in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_hns.ops import devices


def log_sum_exp(scores: Tensor, tau: float) -> Tensor:
    """Log sum_j exp(s_j / tau) of each row.

    ``torch.logsumexp`` takes exponentials in both directions, and a pass for each of its steps.

    Args:
        scores: ``[B, N]``; minus infinity adds nothing, if a row has other scores.
        tau: the temperature, > 0.

    Returns:
        ``[B]``.
    """
    return _LogSumExp.apply(scores, tau)


def _exponentials(scores: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """The highest s / tau of each row, exp(s / tau - highest), and their sum."""
    terms = torch.empty_like(scores)
    highest, total = scores.new_empty(2, len(scores))
    rows = max(1, devices.pairs_at_once(scores) // scores.shape[1])
    parts = (each.split(rows) for each in (scores, terms, highest, total))
    for of_scores, of_terms, of_highest, of_total in zip(*parts, strict=True):
        torch.amax(of_scores, 1, out=of_highest).div_(tau)
        torch.add(-of_highest.unsqueeze(1), of_scores, alpha=1 / tau, out=of_terms).exp_()
        torch.sum(of_terms, 1, out=of_total)
    return highest, terms, total


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, tau: float) -> Tensor:
        highest, terms, total = _exponentials(scores, tau)
        ctx.save_for_backward(terms, total)
        ctx.tau = tau
        return highest + total.log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        terms, total = ctx.saved_tensors
        return terms * (grad / (total * ctx.tau)).unsqueeze(1), None
