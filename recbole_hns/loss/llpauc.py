"""LLPAUC: the lower-left partial AUC as a loss (Shi et al., WWW 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Sharpness of the softplus that stands for max(x, 0).
KAPPA = 5.0


@register_loss("llpauc")
class LLPAUC(Loss):
    """The square loss of the alpha best positives and the beta hardest negatives, as a min-max.

    With p = sigmoid(r_ui), n = sigmoid(r_uj) and [x] = log(1 + exp(5 x)) / 5, a row's loss is

        -s+ - [2 (1 + g) p - (p - a)^2 - s+] / alpha
        + s- + sum_j w_j [2 (1 + g) n_j + (n_j - b)^2 - s-] / beta - g^2.

    Its mean over rows is minimised over the model, a, b and s- and maximised over s+ and g. For
    fixed scores s+ and s- become thresholds that alpha of the positives and beta of the negatives
    are above, a and b the means of p and n over these, and g becomes b - a; but for the softplus,
    the loss is then the mean of (1 - p + n)^2 - 1 over pairs of these.

    All learn in one step and, as in the authors' program, at the model's learning rate, s+, s- and
    g at twice that; s+ and g by the gradient with the other sign. g is kept at max(-a, b - 1) or
    above, as in the paper, where each term falls with p and rises with n; the program has
    multipliers for that, which are 0 at the solution. The paper's further term in g^2, for a loss
    that is concave in g, is in no program and not here.
    """

    llpauc_loss_alpha: float = Field(
        0.7, gt=0, le=1, description="alpha, the part of the positives"
    )
    llpauc_loss_beta: float = Field(0.1, gt=0, le=1, description="beta, the part of the negatives")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Start the loss's parameters where the authors' program does."""
        self.a = nn.Parameter(torch.tensor(1.0))
        self.b = nn.Parameter(torch.tensor(0.0))
        # halves, so that a step of the optimizer is twice that of a and b
        self.half_s_pos = nn.Parameter(torch.tensor(0.25))
        self.half_s_neg = nn.Parameter(torch.tensor(0.25))
        self.half_gamma = nn.Parameter(torch.tensor(0.0))

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        self._clip()
        s_pos, gamma = 2 * _ascending(self.half_s_pos), 2 * _ascending(self.half_gamma)
        s_neg = 2 * self.half_s_neg
        pos, neg = scores.pos.squeeze(1).sigmoid(), scores.neg.sigmoid()
        easy = F.softplus(2 * (1 + gamma) * pos - (pos - self.a) ** 2 - s_pos, beta=KAPPA)
        hard = F.softplus(2 * (1 + gamma) * neg + (neg - self.b) ** 2 - s_neg, beta=KAPPA)
        if negatives.excluded is not None:
            hard = torch.where(scores.neg == -torch.inf, 0, hard)
        of_positive = s_pos + easy / self.llpauc_loss_alpha
        of_negatives = s_neg + negatives.mean(hard) / self.llpauc_loss_beta
        return of_negatives - of_positive - gamma**2

    @torch.no_grad()
    def _clip(self) -> None:
        """Bring what the last step left back into its bounds, s+ and s- into those of the terms."""
        self.a.clamp_(0, 1)
        self.b.clamp_(0, 1)
        self.half_s_pos.clamp_(-0.5, 2)
        self.half_s_neg.clamp_(0, 2.5)
        lowest = torch.maximum(-self.a, self.b - 1)
        self.half_gamma.clamp_(max=0.5).copy_(torch.maximum(self.half_gamma, lowest / 2))


def _ascending(parameter: Tensor) -> Tensor:
    """The parameter with the other sign of its gradient: a step down goes up."""
    return 2 * parameter.detach() - parameter
