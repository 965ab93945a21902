"""SL@K: the softmax loss with a weight for the top K (Yang et al., KDD 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Encoded, Negatives, Scores
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.loss.base import Loss, check_list_length
from recbole_hns.loss.registry import register_loss
from recbole_hns.ops import devices
from recbole_hns.ops.highest import highest

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


@register_loss("sl_at_k")
class SLAtK(Loss):
    """sigmoid((r_ui - beta_u) / tau_w) log sum_j n w_j exp((r_uj - r_ui) / tau).

    beta_u is the K-th highest score of the user: among all items, or, as the authors' program
    estimates it, among the items of the user in training and ``sl_candidate_num`` others drawn
    uniformly. It is 0 at first, renewed every ``sl_every`` epochs and kept with the checkpoint.
    The weight has a gradient, as in the program. n is the number of weights w > 0. For a large
    tau_w the loss is half the softmax loss.

    Raises:
        UserError: if fewer than K items are to be drawn.
    """

    sums_only = True

    loss_tau: float = Field(0.1, gt=0, description="tau, the temperature")
    sl_weight_tau: float = Field(1.0, gt=0, description="tau_w, the temperature of the weight")
    sl_k: PositiveInt = Field(20, description="K, length of the list of recommendations")
    sl_every: PositiveInt = Field(5, description="epochs between two renewals of beta_u")
    sl_candidate_num: PositiveInt | Literal["all"] = Field(
        "all", description="items drawn to estimate beta_u; all = exact"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        num = self.sl_candidate_num
        if num != "all" and num < self.sl_k:
            raise UserError.of("sl_candidate_num", num, f"must be >= sl_k={self.sl_k}, or all")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make room for the thresholds."""
        check_list_length("sl_k", self.sl_k, model)
        self.register_buffer("beta", torch.zeros(model.n_users))

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Renew the thresholds where it is time."""
        if epoch == 0 or epoch % self.sl_every:
            return
        users = torch.arange(len(self.beta), device=self.beta.device)
        for user in users.split(max(1, devices.pairs_at_once(users) // pool.item_num)):
            scores = self._listed(encoded.user_scores(user, None).float(), user, pool)
            top = scores.gather(1, highest(scores, self.sl_k))
            self.beta[user] = top.amin(dim=1)

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        pos = scores.pos.squeeze(1)
        losses = negatives.log_sum_exp(scores.neg, self.loss_tau) - pos / self.loss_tau
        return torch.sigmoid((pos - self.beta[part.user]) / self.sl_weight_tau) * losses

    def _listed(self, scores: Tensor, user: Tensor, pool: NegativePool) -> Tensor:
        """Scores with minus infinity for the items among which no threshold is looked for."""
        if self.sl_candidate_num == "all":
            scores[:, 0] = -torch.inf
            return scores
        listed = torch.full_like(scores, -torch.inf)
        row, item = pool.own_items(user)
        listed[row, item] = scores[row, item]
        listed[:, 0] = -torch.inf
        drawn = pool.with_distribution("uniform", None).draw(user, self.sl_candidate_num)
        return listed.scatter(1, drawn, scores.gather(1, drawn))
