"""Softmax-based sampling with a fixed temperature."""

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.sampler.base import HardNegativeSampler, Negatives, register_sampler


@register_sampler("softmax")
class Softmax(HardNegativeSampler):
    """All N candidates, w_j proportional to exp(r_uj / tau), with a fixed tau."""

    softmax_tau: float = Field(1.0, gt=0, description="tau, the temperature")

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Weight every candidate by the softmax of its score."""
        # subtracting the maximum first: a small tau must not turn it into inf - inf
        shifted = scores - scores.amax(dim=1, keepdim=True)
        return Negatives(index=None, weight=torch.softmax(shifted / self.softmax_tau, dim=1))
