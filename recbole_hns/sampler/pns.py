"""PNS: popularity-based negative sampling."""

from typing import Literal

from pydantic import Field

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("pns")
class PNS(HardNegativeSampler):
    """One negative, drawn with probability proportional to popularity^candidate_alpha."""

    candidate_num: Literal[1] = Field(1, description="one negative is drawn")
    candidate_distribution: Literal["popularity"] = Field("popularity", description="fixed")

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take the one that was drawn."""
        return Selection()
