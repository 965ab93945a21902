"""BSL: the bilateral softmax loss (Wu et al., ICDE 2024)."""

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.loss.base import Loss
from recbole_hns.loss.registry import register_loss


@register_loss("bsl")
class BSL(Loss):
    """A softmax loss whose positive and negative parts are not alike, in the forms of its program.

    - by default: -r_ui / t1 + t2 log sum_j n w_j exp(r_uj / t1);
    - ``bsl_pooled``: the positive part is -log of the mean of exp(r_ui / t1) over the rows that the
      user has in the batch, the negative one t2 log sum_j w_j exp(r_uj / t1).

    n is the number of weights > 0. With t2 = 1, the first is the softmax loss at t1.
    """

    sums_only = True

    loss_tau: float = Field(0.1, gt=0, description="t1, the temperature")
    bsl_power: float = Field(1.1, gt=0, description="t2, the weight of the negative part")
    bsl_pooled: bool = Field(False, description="pool a user's positives in the batch")

    @property
    def pools_users(self) -> bool:
        """Where positives are pooled."""
        return self.bsl_pooled

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive, ``[B]``."""
        pos = scores.pos.squeeze(1) / self.loss_tau
        others = negatives.log_sum_exp(scores.neg, self.loss_tau, linear=True)
        if not self.bsl_pooled:
            return self.bsl_power * others - pos
        others = others - negatives.counts().clamp(min=1).to(others.dtype).log()
        return self.bsl_power * others - _log_mean_exp_by_user(pos, part.user)


def _log_mean_exp_by_user(values: Tensor, user: Tensor) -> Tensor:
    """For each row, the log of the mean of exp(x) over the rows of its user, ``[B]``."""
    _, group, count = user.unique(return_inverse=True, return_counts=True)
    highest = values.detach().new_full(count.shape, -torch.inf)
    highest = highest.scatter_reduce(0, group, values.detach(), "amax")
    terms = (values - highest[group]).exp()
    sums = torch.zeros_like(highest).index_add(0, group, terms)
    return ((sums / count).log() + highest)[group]
