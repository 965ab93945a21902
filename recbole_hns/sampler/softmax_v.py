"""Softmax-v(rho, N) of the HNS paper (WWW 2023), Algorithm 2."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.sampler.base import CandidateNum, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("softmax_v")
class SoftmaxV(HardNegativeSampler):
    """All N candidates, w_j proportional to exp(L_j / tau) (HNS paper, Algorithm 2).

    tau = sqrt(Var_j(L_j) / (2 rho)) is computed anew for each (u, i), Var being the population
    variance over the candidates. By Theorem 2 it optimises a surrogate of OPAUC(beta) at
    rho = -ln(beta), so ``opauc_beta`` sets rho.
    """

    hardness_key = "softmax_rho"

    candidate_num: CandidateNum = Field(
        200, description="N, candidates per positive; all = every negative, exactly"
    )
    softmax_rho: float = Field(0.5, ge=0, description="rho, the hardness; 0 weights all alike")
    opauc_beta: float | None = Field(
        None, gt=0, le=1, description="hardness exp(-rho); sets softmax_rho in its place"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.opauc_beta is not None:
            self.softmax_rho = -math.log(self.opauc_beta)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Weight every candidate by the softmax of its loss at the row's own temperature."""
        return Selection(weight=softmax_v_weight(*scores, self.softmax_rho))


def softmax_v_weight(pos_scores: Tensor, scores: Tensor, rho: float) -> Tensor:
    """Weights of Algorithm 2, p_ij = exp(L_j / tau) / sum_k exp(L_k / tau), L_j being BPR's loss.

    Equal losses, and a single candidate, have variance 0 and get equal weights; so do losses that
    differ by rounding errors only.

    Args:
        pos_scores: ``[batch, 1]``.
        scores: ``[batch, N]``; a score of minus infinity is no candidate and gets weight 0.
        rho: >= 0.

    Returns:
        ``[batch, N]``, rows summing to 1.
    """
    inside = scores > -torch.inf
    losses = F.softplus(scores - pos_scores)
    num = inside.sum(dim=1, keepdim=True)
    mean = losses.sum(dim=1, keepdim=True) / num  # outside, the loss is 0
    variance = torch.where(inside, losses - mean, 0).square().sum(dim=1, keepdim=True) / num
    largest = losses.amax(dim=1, keepdim=True)
    # Equal scores can differ in the last bit of their losses, which the variance would blow up.
    rounding = (4 * torch.finfo(losses.dtype).eps * largest).square()
    inverse_tau = torch.where(variance > rounding, torch.sqrt(2 * rho / variance), 0)
    # relative to the largest loss, so that no exponent is positive
    exponent = (losses - largest) * inverse_tau
    return torch.softmax(torch.where(inside, exponent, -torch.inf), dim=1)
