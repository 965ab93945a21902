"""gBCE: binary cross-entropy for sampled negatives (Petrov & Macdonald, RecSys 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


@register_loss("gbce")
class GBCE(Loss):
    """-(beta log sigmoid(r_ui) + sum_j n w_j log(1 - sigmoid(r_uj))) / (n + 1).

    n is the number of weights w > 0. Where few of the items are negatives, a binary cross-entropy
    learns probabilities that are too high; with beta = 1 - t (1 - alpha), alpha = n / (items - 1)
    being the fraction of the items that are negatives of a row, those that t = 1 learns are right,
    and with t = 0 it is the plain binary cross-entropy. The paper's default for t is 0.75, with 256
    uniform negatives. A row without negatives has no loss.
    """

    gbce_t: float = Field(0.75, ge=0, le=1, description="t, how far probabilities are calibrated")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Count the items, without the padding."""
        self.item_num = model.n_items - 1

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        num = negatives.counts().to(scores.pos.dtype)
        alpha = (num / max(self.item_num - 1, 1)).clamp(max=1)
        beta = 1 - self.gbce_t * (1 - alpha)
        of_positive = beta * F.softplus(-scores.pos.squeeze(1))
        return (of_positive + num * negatives.mean(F.softplus(scores.neg))) / (num + 1)
