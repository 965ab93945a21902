"""All candidates alike, for losses that weight them by themselves."""

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("all")
class All(HardNegativeSampler):
    """Every candidate, with equal weights."""

    takes_all = True

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take all candidates."""
        return Selection()
