"""The sampled softmax loss (Wu et al., TOIS 2024)."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("softmax")
class Softmax(Loss):
    """log sum_j n w_j exp((r_uj - r_ui) / tau), n being the number of weights > 0.

    With equal weights that is log sum_j exp((r_uj - r_ui) / tau), the form of IR-Benchmark. With
    ``softmax_positive`` the positive is in the sum, -log(e_i / (e_i + sum_j n w_j e_j)), which is
    the form of the paper and of InfoNCE. A row without negatives has no loss.
    """

    sums_only = True

    loss_tau: float = Field(0.1, gt=0, description="tau, the temperature")
    softmax_positive: bool = Field(False, description="have the positive in the sum")

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        tau, linear = self.loss_tau, not self.softmax_positive
        total = negatives.log_sum_exp(scores.neg, tau, linear) - scores.pos.squeeze(1) / tau
        return F.softplus(total) if self.softmax_positive else total
