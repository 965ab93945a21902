"""WARP: weighted approximate-rank pairwise loss (IJCAI 2011)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.data.candidates import CandidateSampler
from recbole_hns.sampler.base import Count, HardNegativeSampler, Negatives, register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


@register_sampler("warp")
class WARP(HardNegativeSampler):
    """The first of up to max_trials candidates that violates the margin, r_uj > r_ui - margin.

    If it is the T-th, the positive's rank is estimated as k = max(1, floor(N_- / T)), N_- being the
    user's number of negatives, and the loss is L(k) max(0, margin - r_ui + r_uj) with
    L(k) = 1 + 1/2 + ... + 1/k. A positive that no candidate violates has no loss, but counts in the
    batch's mean, so that learning slows down as ranks improve.

    Source: Weston, Bengio & Usunier, IJCAI 2011, as far as secondary sources and lightfm tell. The
    paper's cap is N_- and its bound on norms is replaced by the model's L2. All max_trials
    candidates are drawn at once, by the scores at the start of the batch. ``warp_normalize``
    divides the loss by L(N_-), which keeps the weight in [0, 1].
    """

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

    def scored_num(self, item_num: int) -> int:
        """The number of trials."""
        return self.warp_max_trials

    def draw(self, candidates: CandidateSampler, user: Tensor) -> Tensor:
        """Draw all trials."""
        self._negative_num = candidates.negative_num(user).unsqueeze(1)
        return candidates.draw(user, self.warp_max_trials)

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Take the first that violates the margin; where none does, the first, without a loss."""
        violates = (scores > pos_scores - self.warp_margin) & pos_scores.isfinite()
        # the first of the largest
        index = violates.byte().argmax(dim=1, keepdim=True)
        rank = (self._negative_num // (index + 1)).clamp(min=1)
        rank_loss = self.harmonic[rank]
        if self.warp_normalize:
            rank_loss = rank_loss / self.harmonic[self._negative_num]
        self._rank_loss = torch.where(violates.gather(1, index), rank_loss, 0).to(scores.dtype)
        return Negatives(index)

    def loss(self, pos_scores: Tensor, scores: Tensor, weight: Tensor | None) -> Tensor:
        """The hinge loss, weighted by the estimated rank's L(k)."""
        hinge = (self.warp_margin - pos_scores + scores).clamp(min=0)
        return torch.where(self._rank_loss > 0, self._rank_loss * hinge, 0).sum(dim=1)
