"""The logarithm of a sum of exponentials over each row, in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, tau: float) -> Tensor:
        highest = scores.amax(dim=1) / tau
        terms = torch.add(-highest.unsqueeze(1), scores, alpha=1 / tau).exp_()
        total = terms.sum(dim=1)
        ctx.save_for_backward(terms, total)
        ctx.tau = tau
        return highest + total.log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        terms, total = ctx.saved_tensors
        return terms * (grad / (total * ctx.tau)).unsqueeze(1), None
