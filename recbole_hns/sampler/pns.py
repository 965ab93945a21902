"""PNS: popularity-based negative sampling."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from recbole_hns.sampler.base import HardNegativeSampler, Negatives, register_sampler


@register_sampler("pns")
class PNS(HardNegativeSampler):
    """One negative, drawn with probability proportional to popularity^candidate_alpha."""

    candidate_num: Literal[1] = Field(1, description="one negative is drawn")
    candidate_distribution: Literal["popularity"] = Field("popularity", description="fixed")

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Take the one that was drawn."""
        return Negatives(index=None)
