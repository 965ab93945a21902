"""AHNS_p<0 of the AHNS paper (AAAI 2024), Algorithm 1."""

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.sampler.base import CandidateNum, HardNegativeSampler, Negatives, register_sampler

#: r_ui + alpha is not taken below this: the power of a value <= 0 would flip sign or be no number,
#: whereas by criterion C2 a badly scored positive asks for a hard negative.
SMALLEST_BASE = 1e-6


@register_sampler("ahns")
class AHNS(HardNegativeSampler):
    """The candidate whose score is nearest to one that falls as r_ui rises (AHNS paper, Eq. 2-3).

    Chooses argmin_j |r_uj - beta (r_ui + alpha)^(p+1)| among N candidates (Algorithm 1, whose M is
    this N): hard negatives for positives that score low, easy ones for those that score high.
    """

    candidate_num: CandidateNum = Field(
        8, description="N, candidates per positive; all = every negative, exactly"
    )
    ahns_alpha: float = Field(0.1, gt=0, description="alpha of Eq. 2")
    ahns_beta: float = Field(1.0, gt=0, description="beta of Eq. 2")
    ahns_p: float = Field(-2.0, lt=0, description="p of Eq. 2; -1 is the target beta throughout")

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Choose the candidate nearest to the target, the first of them where two are as near."""
        target = ahns_target(pos_scores, self.ahns_alpha, self.ahns_beta, self.ahns_p)
        # A target outside the candidates' scores is nearest to the outermost of them; moved there
        # it chooses the same one, and rounding cannot make a huge target equally far from all.
        highest = scores.amax(dim=1, keepdim=True)
        lowest = torch.where(scores > -torch.inf, scores, torch.inf).amin(dim=1, keepdim=True)
        target = target.minimum(highest).maximum(lowest)
        return Negatives(index=(scores - target).abs().argmin(dim=1, keepdim=True))


def ahns_target(pos_scores: Tensor, alpha: float, beta: float, p: float) -> Tensor:
    """Score that the negative of a positive should have, beta (r_ui + alpha)^(p+1) (Eq. 2).

    Args:
        pos_scores: r_ui, any shape. r_ui + alpha is taken as at least :data:`SMALLEST_BASE`.
        alpha: > 0.
        beta: > 0.
        p: < 0.

    Returns:
        Targets, the shape of ``pos_scores``; infinite only where the power overflows.
    """
    return beta * (pos_scores + alpha).clamp(min=SMALLEST_BASE) ** (p + 1)
