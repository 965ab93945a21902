"""DNS: dynamic negative sampling."""

from recbole_hns.batch import Batch, Candidates, Scores, Selection
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler


@register_sampler("dns")
class DNS(HardNegativeSampler):
    """The highest-scored of N candidates, argmax_j r_uj (Zhang et al., SIGIR 2013): DNS(1, N)."""

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Choose the highest-scored candidate, the first of them where scores are equal."""
        return Selection(scores.neg.argmax(dim=1, keepdim=True))
