"""BPR: Bayesian personalised ranking (Rendle et al., UAI 2009)."""

import torch.nn.functional as F
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("bpr")
class BPR(Loss):
    """The weighted BPR loss sum_j w_j L_j, L_j = -log sigmoid(r_ui - r_uj)."""

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        losses = F.softplus(scores.neg - scores.pos)
        return negatives.mean(losses)
