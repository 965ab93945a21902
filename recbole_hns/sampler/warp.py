"""WARP: weighted approximate-rank pairwise loss (IJCAI 2011)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.data import NegativePool
from recbole_hns.sampler.base import Count, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


@register_sampler("warp")
class WARP(HardNegativeSampler):
    """The first of up to max_trials candidates that violates the margin, r_uj > r_ui - margin.

    If it is the T-th, the positive's rank is estimated as k = max(1, floor(N_- / T)), N_- being the
    user's number of negatives, and the loss is L(k) max(0, margin - r_ui + r_uj) with
    L(k) = 1 + 1/2 + ... + 1/k. A positive that no candidate violates has no loss, but counts in the
    batch's mean, so that learning slows down as ranks improve.

    Source: Weston, Bengio & Usunier, IJCAI 2011, as far as secondary sources and lightfm show. The
    paper's cap is N_- and its bound on norms is replaced by the model's L2. All max_trials
    candidates are drawn at once, by the scores at the start of the batch. ``warp_normalize``
    divides the loss by L(N_-), which keeps the weight in [0, 1].
    """

    can_share = True
    default_loss = "hinge"

    candidate_num: Literal[1] = Field(1, description="one negative is used")
    candidate_distribution: Literal["uniform"] = Field("uniform", description="fixed")
    warp_margin: float = Field(1.0, gt=0, description="margin of the hinge loss")
    warp_max_trials: Count = Field(256, description="candidates drawn at most")
    warp_normalize: bool = Field(False, description="divide the loss by L(N_-)")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Tabulate L(0), L(1), ..."""
        rank = torch.arange(1, model.n_items, dtype=torch.float64)
        harmonic = torch.cat([torch.zeros(1), (1 / rank).cumsum(0)])
        self.register_buffer("harmonic", harmonic, persistent=False)

    def loss_parameters(self) -> dict[str, Any]:
        """The hinge's margin is the one that candidates violate."""
        return {"hinge_margin": self.warp_margin}

    @property
    def num_drawn(self) -> int:
        """The number of trials."""
        return self.warp_max_trials

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Draw all trials."""
        candidates = super().propose(part, encoded, pool)
        return candidates._replace(negative_num=pool.negative_num(part.owner).unsqueeze(1))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take the first that violates the margin; where none does, the first, without a loss."""
        pos, neg = scores
        violates = (neg > pos - self.warp_margin) & pos.isfinite()
        # the first of the largest
        columns = violates.byte().argmax(dim=1, keepdim=True)
        trial = columns + 1
        if candidates.excluded is not None:
            # an excluded candidate was not a trial of this row
            trial = (neg > -torch.inf).cumsum(dim=1).gather(1, columns).clamp(min=1)
        negative_num = candidates.negative_num
        assert negative_num is not None  # as it was proposed
        scale = self.harmonic[(negative_num // trial).clamp(min=1)]
        if self.warp_normalize:
            scale = scale / self.harmonic[negative_num]
        scale = torch.where(violates.gather(1, columns), scale, 0).to(neg.dtype)
        return Selection(columns, scale=scale.squeeze(1))
