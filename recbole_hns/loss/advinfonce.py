"""AdvInfoNCE: a softmax loss with an adversary that says which negatives are hard."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Encoded, Negatives, Scores
from recbole_hns.data import NegativePool
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss
from recbole_hns.ops.list_scores import list_scores
from recbole_hns.ops.log_sum_exp import log_sum_exp
from recbole_hns.ops.optimizer import load_optimizer

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Of the adversary's Adam.
LEARNING_RATE = 5e-5

#: Positives in one update of the adversary.
POSITIVES = 2048


@register_loss("advinfonce")
class AdvInfoNCE(Loss):
    """-log(e_i / (e_i + K sum_j n w_j exp(delta_j) e_j)), e being exp(r / tau).

    delta_j = log(n softmax_j g_uj) over the n negatives of a weight w > 0, g being the scores of an
    adversary, a matrix factorisation of the model's embedding size (Zhang et al., NeurIPS 2023).
    For one negative delta is 0, and where g is constant this is the softmax loss with the positive
    in the sum, its negatives times K. Before every ``advinfonce_interval``-th epoch, but
    ``advinfonce_passes`` times at most, the adversary has one pass over the positives in which it
    raises this loss of ``advinfonce_candidate_num`` negatives drawn uniformly, the model being
    held. Defaults, its start and its learning rate of 5e-5 are those of the authors' program.
    """

    loss_tau: float = Field(0.1, gt=0, description="tau, the temperature")
    advinfonce_k: float = Field(64.0, gt=0, description="K, the weight of the negatives")
    advinfonce_interval: PositiveInt = Field(
        5, description="epochs of the model between two passes of the adversary"
    )
    advinfonce_passes: int = Field(7, ge=0, description="passes of the adversary in all")
    advinfonce_candidate_num: PositiveInt = Field(
        128, description="items drawn for each positive in such a pass"
    )

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make the adversary, whose tables are no parameters of the model's optimizer."""
        items = getattr(model, "item_embedding", None)
        dim = 64 if items is None else items.embedding_dim
        for name, rows in (("user", model.n_users), ("item", model.n_items)):
            table = torch.nn.init.xavier_normal_(torch.empty(rows, dim))
            self.register_buffer(f"adversary_{name}", table)

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """The adversary's own; made when the tables are on their device."""
        tables = (self.adversary_user, self.adversary_item)
        return torch.optim.Adam(
            [table.requires_grad_() for table in tables], lr=LEARNING_RATE, maximize=True
        )

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the adversary."""
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        load_optimizer(self.optimizer, state["optimizer"])

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Let the adversary learn where it is time."""
        passes, rest = divmod(epoch, self.advinfonce_interval)
        if rest or not 0 < passes <= self.advinfonce_passes:
            return
        pair = pool.tables(self.adversary_user.device).pair
        pair = pair[torch.randperm(len(pair)).to(pair.device)]
        num = self.advinfonce_candidate_num
        rows = min(POSITIVES, encoded.pairs_in_memory // num + 1)
        uniform = pool.with_distribution("uniform", None)
        for batch in pair.split(rows):
            user, item = batch // pool.item_num, batch % pool.item_num
            drawn = uniform.draw(user, num)
            pos, neg = (
                encoded.user_scores(user, each).float() for each in (item.unsqueeze(1), drawn)
            )
            self.optimizer.zero_grad()
            with torch.enable_grad():
                delta = _hardness(self.adversary_scores(user, drawn))
                others = log_sum_exp(neg + self.loss_tau * delta, self.loss_tau)
                self._loss(pos.squeeze(1), others).mean().backward()
            self.optimizer.step()

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        neg = scores.neg
        if neg.shape[1] > 1:  # else delta is 0, and the negative may be no item
            with torch.no_grad():
                g = self.adversary_scores(part.user, negatives.items)
                if negatives.weight is not None:
                    g = g.masked_fill(negatives.weight == 0, -torch.inf)
                elif negatives.excluded is not None:
                    g[negatives.excluded] = -torch.inf
                delta = _hardness(g, negatives.counts().unsqueeze(1))
            neg = neg + self.loss_tau * delta
        return self._loss(scores.pos.squeeze(1), negatives.log_sum_exp(neg, self.loss_tau))

    def adversary_scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """Scores g of items for each user, ``[B, N]``.

        Args:
            user: ``[B]``, int64.
            items: ``[B, N]`` or ``[1, N]``, int64; None for every item.
        """
        query, table = self.adversary_user[user], self.adversary_item
        if items is None:
            return query @ table.t()
        if len(items) == 1:
            return query @ table[items[0]].t()
        return list_scores(query, table, items)

    def _loss(self, pos: Tensor, others: Tensor) -> Tensor:
        return F.softplus(math.log(self.advinfonce_k) + others - pos / self.loss_tau)


def _hardness(g: Tensor, counts: Tensor | None = None) -> Tensor:
    """delta, ``[B, N]``, from g, which is minus infinity for what is no negative.

    Args:
        g: ``[B, N]``.
        counts: number of negatives of each row, ``[B, 1]``; None for N.
    """
    num = g.new_tensor(g.shape[1]) if counts is None else counts.clamp(min=1).to(g.dtype)
    return torch.log_softmax(g, dim=1) + num.log()
