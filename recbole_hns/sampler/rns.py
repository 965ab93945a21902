"""RNS: random negative sampling, the plain BPR."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from recbole_hns.sampler.base import HardNegativeSampler, Negatives, register_sampler


@register_sampler("rns")
class RNS(HardNegativeSampler):
    """One uniform negative (Rendle et al., UAI 2009)."""

    candidate_num: Literal[1] = Field(1, description="one negative is drawn")
    candidate_distribution: Literal["uniform"] = Field("uniform", description="fixed")

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Take the one that was drawn."""
        return Negatives(index=None)
