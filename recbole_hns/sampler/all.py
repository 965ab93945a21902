"""All candidates alike, for losses that weight them by themselves."""

from typing import Any

import torch
from pydantic import Field

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.data import NegativePool
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler
from recbole_hns.sampler.softmax import softmax_weight


@register_sampler("all")
class All(HardNegativeSampler):
    """Every candidate, with equal weights.

    With ``all_log_q``, weights are proportional to 1 / q_j, q_j being the chance of drawing j: what
    a loss sums over the candidates is then what uniform ones would give, and a softmax subtracts
    log q_j from each score, up to a constant. In a batch q_j is the item's part of the
    interactions.
    """

    can_share = True
    takes_all = True

    all_log_q: bool = Field(False, description="correct for what popularity or in_batch draws more")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.all_log_q:
            self.takes_all = False  # type: ignore[misc]

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Propose the candidates, with log q where it is corrected for."""
        candidates = super().propose(part, encoded, pool)
        if candidates.items is None or not self.all_log_q:
            return candidates
        in_batch = self.candidate_distribution == "in_batch"
        log_q = pool.log_popularity if in_batch else pool.log_mass
        return candidates._replace(log_q=log_q(candidates.items))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take all candidates."""
        if candidates.log_q is None:
            return Selection()
        alike = torch.where(scores.neg == -torch.inf, scores.neg, 0.0)
        return Selection(weight=softmax_weight(alike, 1.0, candidates.log_q))
