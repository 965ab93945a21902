"""Talos: a softmax loss of scores above a learned top-K threshold (Zhang et al., WWW 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recbole_hns.batch import Batch, Encoded, Negatives, Scores
from recbole_hns.data import NegativePool
from recbole_hns.loss.base import Loss, check_list_length
from recbole_hns.loss.registry import register_loss

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


@register_loss("talos")
class Talos(Loss):
    """-log(sigmoid(r_ui - beta_u)^(1/tau) / sum_j n w_j sigmoid(r_uj - beta_u)^(1/tau)).

    beta_u is the score that K of all items are above. It is constant in the loss above and learned
    beside it, from scores that are constant there, by the pinball loss of the level K / items over
    all of them: a row's positive stands for all of its user's, and its negatives for all others,
    which is right for negatives that were drawn uniformly. Its learning rate is by default
    that of the authors' program. n is the number of weights w > 0.
    """

    loss_tau: float = Field(0.1, gt=0, description="tau, the temperature")
    talos_k: PositiveInt = Field(20, description="K, length of the list of recommendations")
    talos_lr: float = Field(0.001, gt=0, description="learning rate of the thresholds beta_u")

    @property
    def own_learning_rate(self) -> float:
        """That of the thresholds."""
        return self.talos_lr

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make room for the thresholds."""
        check_list_length("talos_k", self.talos_k, model)
        self.beta = nn.Parameter(torch.zeros(model.n_users))
        self.register_buffer("negative_num", torch.zeros(model.n_users))
        self.register_buffer("item_num", torch.tensor(float(model.n_items - 1)))

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Count each user's negatives."""
        users = torch.arange(len(self.beta), device=self.beta.device)
        self.negative_num.copy_(pool.negative_num(users))

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        beta = self.beta[part.user].unsqueeze(1)
        above = Scores(*(F.logsigmoid(each - beta.detach()) for each in scores))
        total = negatives.log_sum_exp(above.neg, self.loss_tau)
        return total - above.pos.squeeze(1) / self.loss_tau + self._pinball(beta, negatives, part)

    def _pinball(self, beta: Tensor, negatives: Negatives, part: Batch) -> Tensor:
        """The pinball loss of each row's threshold, ``[B]``."""
        level = self.talos_k / self.item_num
        pos, neg = (
            torch.where(each > beta, (1 - level) * (each - beta), level * (beta - each))
            for each in negatives.scores
        )
        neg = torch.where(negatives.scores.neg == -torch.inf, 0, neg)
        share = self.negative_num[part.user] / self.item_num
        return (1 - share) * pos.squeeze(1) + share * negatives.mean(neg)
