"""PSL: the pairwise softmax loss (Yang et al., NeurIPS 2024)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("psl")
class PSL(Loss):
    """log sum_j n w_j sigma((r_uj - r_ui) / 2)^(1/tau), n being the number of weights > 0.

    sigma is a surrogate of the step from 0 to 1 at 0: tanh(x) + 1, max(x + 1, 0) or atan(x) + 1.
    With the exponential in its place it would be the softmax loss at 2 tau. It is made for cosines,
    of which half a difference is in [-1, 1]; where a surrogate is 0 or less, it counts as the
    smallest step from 1 that the type of number has, without gradient.
    """

    loss_tau: float = Field(0.1, gt=0, description="tau, the temperature")
    psl_surrogate: Literal["tanh", "relu", "atan"] = Field(
        "tanh", description="sigma(x): tanh(x) + 1, max(x + 1, 0) or atan(x) + 1"
    )

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        return negatives.log_sum_exp(self._log_sigma(scores.neg - scores.pos), self.loss_tau)

    def _log_sigma(self, difference: Tensor) -> Tensor:
        """Logarithm of sigma(d / 2)."""
        if self.psl_surrogate == "tanh":
            # tanh(d / 2) + 1 = 2 sigmoid(d), which does not round to 0 for a large -d
            return math.log(2) + F.logsigmoid(difference)
        half = difference / 2
        sigma = half + 1 if self.psl_surrogate == "relu" else half.atan() + 1
        return sigma.clamp(min=torch.finfo(sigma.dtype).eps).log()
