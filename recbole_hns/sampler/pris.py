"""PRIS: personalised ranking with importance sampling (WWW 2020)."""

from typing import Literal

from pydantic import Field

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.data import NegativePool
from recbole_hns.sampler.base import CandidateNum, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler
from recbole_hns.sampler.softmax import softmax_weight


@register_sampler("pris")
class PRIS(HardNegativeSampler):
    """All N candidates, w_j proportional to exp(r_uj / tau) / q_j, q_j the chance of drawing j.

    PRIS(U) draws uniformly and is ``softmax`` with N = 5 and tau = 1. PRIS(P), with
    ``candidate_distribution: popularity``, draws with q_j proportional to log(1 + count of j in
    the training data), or, where ``candidate_alpha`` is set, to the count to that power; an item
    without interactions is never drawn. With one candidate it is BPR under q.

    Source: Lian, Liu & Chen, WWW 2020, and programs. The authors' own lets the gradient pass
    through the weights; those of AdaSIR and HNS, which made the rows PRIS(U) and PRIS(P) of these
    papers' tables, do not, and neither does this. Candidates are drawn with replacement, as in the
    derivation, and never among the user's own items; AdaSIR's program does otherwise in both.
    """

    can_share = True

    candidate_num: CandidateNum = Field(
        5, description="N, candidates per positive; all = every negative, exactly"
    )
    candidate_distribution: Literal["uniform", "popularity"] = Field(
        "uniform", description="PRIS(U) or PRIS(P)"
    )
    candidate_alpha: float | None = Field(
        None, ge=0, description="power of the popularity; unset is its log(1 + count)"
    )
    pris_tau: float = Field(1.0, gt=0, description="tau, the temperature")

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Draw the candidates, with log q."""
        candidates = super().propose(part, encoded, pool)
        if candidates.items is None or self.candidate_distribution == "uniform":
            return candidates
        return candidates._replace(log_q=pool.log_mass(candidates.items))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Weight every candidate by its importance."""
        return Selection(weight=softmax_weight(scores.neg, self.pris_tau, candidates.log_q))
