"""AHNS with the target of its authors' program, for their figures on ML-1M.

``PYTHONPATH=experiments recbole-hns run --sampler=unclamped:Unclamped ...``
"""

from torch import Tensor

from recbole_hns import Negatives
from recbole_hns.sampler.ahns import AHNS


class Unclamped(AHNS):
    """``ahns`` whose target is beta (r_ui + alpha)^(p+1) also where r_ui + alpha is negative.

    With p = -2 the target is negative there, so that a positive that scores below -alpha gets an
    easy negative, and not the hardest as criterion C2 asks. p has to be an integer.
    """

    def select(self, pos_scores: Tensor, scores: Tensor) -> Negatives:
        """Choose the candidate nearest to the target, the first of them where two are as near."""
        target = self.ahns_beta * (pos_scores + self.ahns_alpha) ** (self.ahns_p + 1)
        return Negatives(index=(scores - target).abs().argmin(dim=1, keepdim=True))
