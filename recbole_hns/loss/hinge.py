"""The hinge loss of pairs, as in WARP (Weston, Bengio & Usunier, IJCAI 2011)."""

from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("hinge")
class Hinge(Loss):
    """sum_j w_j max(0, margin - r_ui + r_uj); with WARP the rank's weight is each row's scale."""

    hinge_margin: float = Field(1.0, gt=0, description="margin between positive and negative")

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        losses = (self.hinge_margin - scores.pos + scores.neg).clamp(min=0)
        return negatives.mean(losses)
