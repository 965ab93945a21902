"""DNS: dynamic negative sampling."""

from torch import Tensor

from recbole_hns.sampler.base import HardNegativeSampler, Negatives, register_sampler


@register_sampler("dns")
class DNS(HardNegativeSampler):
    """The highest-scored of N candidates, argmax_j r_uj (Zhang et al., SIGIR 2013): DNS(1, N)."""

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Choose the highest-scored candidate, the first of them where scores are equal."""
        return Negatives(index=scores.argmax(dim=1, keepdim=True))
