"""AHNS_p<0 of the AHNS paper (AAAI 2024), Algorithm 1."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.errors import UserError
from recbole_hns.ops.nearest import nearest
from recbole_hns.sampler.base import CandidateNum, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler

#: r_ui + alpha is not taken below this: the power of a value <= 0 would flip sign or be no number,
#: whereas by criterion C2 a badly scored positive asks for a hard negative.
SMALLEST_BASE = 1e-6

#: A warning is due if after so many epochs more than this fraction of the targets is outside the
#: scores of all candidates. At the start, when all scores are near 0, that is nothing unusual.
WARNED_AFTER, OUTSIDE = 5, 0.95


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
    ahns_clamp: bool = Field(
        True, description="take r_ui + alpha > 0; False is Eq. 2 literally, for an integer p"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if not (self.ahns_clamp or self.ahns_p.is_integer()):
            allowed = f"needs an integer ahns_p, as a value < 0 has no power {self.ahns_p + 1}"
            raise UserError.of("ahns_clamp", False, allowed)
        self._rows = 0
        self.register_buffer("_outside", torch.tensor(0), persistent=False)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Choose the candidate nearest to the target, the first of them where two are as near."""
        pos, neg = scores
        target = ahns_target(pos, self.ahns_alpha, self.ahns_beta, self.ahns_p, self.ahns_clamp)
        columns, outside = nearest(neg, target)
        self._outside += outside.sum()
        self._rows += len(target)
        return Selection(columns)

    def epoch_warning(self) -> str | None:
        """That nearly no target is among the scores, once a run, a few epochs after its start."""
        outside, rows, self._rows = int(self._outside), self._rows, 0
        self._outside.zero_()
        if self.epoch + 1 != WARNED_AFTER or outside <= OUTSIDE * rows:
            return None
        return (
            f"sampler=ahns: for {outside / rows:.0%} of the positives in epoch {self.epoch + 1} "
            "the target beta (r_ui + alpha)^(p+1) is above or below the scores of all candidates, "
            "which makes the negative the hardest or the easiest whatever the hardness asked for; "
            "ahns_alpha, ahns_beta and ahns_p may not suit the scores of this model"
        )


def ahns_target(
    pos_scores: Tensor, alpha: float, beta: float, p: float, clamp: bool = True
) -> Tensor:
    """Score that the negative of a positive should have, beta (r_ui + alpha)^(p+1) (Eq. 2).

    Args:
        pos_scores: r_ui, any shape. r_ui + alpha is taken as at least :data:`SMALLEST_BASE`.
        alpha: > 0.
        beta: > 0.
        p: < 0; an integer without ``clamp``.
        clamp: whether to take r_ui + alpha so. Without, a positive that scores below -alpha has a
            negative target for an even p, and an easy negative, not the hardest as criterion C2
            asks; that is what the authors' program does, and their figures on ML-1M need.

    Returns:
        Targets, the shape of ``pos_scores``; infinite only where the power overflows.
    """
    base = pos_scores + alpha
    return beta * (base.clamp(min=SMALLEST_BASE) if clamp else base) ** (p + 1)
