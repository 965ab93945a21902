"""Softmax-based sampling with a fixed temperature."""

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("softmax")
class Softmax(HardNegativeSampler):
    """All N candidates, w_j proportional to exp(r_uj / tau), with a fixed tau."""

    softmax_tau: float = Field(1.0, gt=0, description="tau, the temperature")

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Weight every candidate by the softmax of its score."""
        return Selection(weight=softmax_weight(scores.neg, self.softmax_tau))


def softmax_weight(scores: Tensor, tau: float, log_q: Tensor | None = None) -> Tensor:
    """Weights w_j proportional to exp(r_uj / tau) / q_j.

    Args:
        scores: r_uj, ``[batch, N]``; minus infinity is no candidate and gets weight 0.
        tau: > 0.
        log_q: logarithm of the probability with which each was drawn, up to a constant of its
            row, ``[batch, N]``; None where all are as likely.

    Returns:
        ``[batch, N]``, rows summing to 1.
    """
    # subtracting the maximum first: a small tau must not turn it into inf - inf
    exponent = (scores - scores.amax(dim=1, keepdim=True)) / tau
    return torch.softmax(exponent if log_q is None else exponent - log_q, dim=1)
