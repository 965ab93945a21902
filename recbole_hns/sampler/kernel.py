"""Kernel-based sampling with a quadratic kernel (ICML 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import check_item_ids
from recbole_hns.data import NegativePool
from recbole_hns.ops import devices
from recbole_hns.sampler.base import Count, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler
from recbole_hns.sampler.softmax import softmax_weight

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Items of a user's pool.
POOL_SIZE = 50

#: The most proposals for a draw at a time, and how often; then the draw is uniform.
PROPOSALS, ROUNDS = 64, 32

#: Users whose pools are drawn at a time, so that their proposals are 16 million.
POOL_USERS = 2**24 // (POOL_SIZE * PROPOSALS)


@register_sampler("kernel")
class Kernel(HardNegativeSampler):
    """N draws with q_j proportional to K_j = alpha r_uj^2 + 1, w_j proportional to exp(r_uj) / K_j.

    Draws are independent, with replacement, and among the user's negatives. Up to 100,000 items
    (on a CPU 20,000), all are scored. Above, with a model that scores by an inner product, items
    are proposed with probability proportional to alpha |e_u|^2 |e_j|^2 + 1 and accepted with K_j
    over that, which is the same law; only where 32 rounds of proposals are rejected, a uniform draw
    stands for them.

    With ``kernel_refresh: epoch`` a pool of 50 is drawn for each user before an epoch's first batch
    and a positive takes N of it, uniformly, with the K_j of then.

    Source: Blanc & Rendle, ICML 2018, whose alpha is 100 and whose loss is a sampled softmax of
    |r_uj|. The program of the HNS and AdaSIR authors, whose tables have it as a row, weights BPR
    losses instead, as is done here; it has alpha = 1 and pools, and puts K_j where log K_j belongs.
    An even kernel draws items of very low scores as often; their weight is about 0.
    """

    can_share = False

    candidate_num: Count = Field(5, description="N, draws per positive")
    candidate_distribution: Literal["uniform"] = Field("uniform", description="fixed")
    kernel_alpha: float = Field(100.0, ge=0, description="alpha; 0 draws uniformly")
    kernel_refresh: Literal["batch", "epoch"] = Field(
        "batch", description="draw anew for each batch, or from pools made every epoch"
    )

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make room for the pools, if there are any."""
        self.register_buffer("on_device", torch.empty(0), persistent=False)
        if self.kernel_refresh == "epoch":
            size = model.n_users, POOL_SIZE
            self.register_buffer("pool", torch.zeros(size, dtype=torch.int32))
            self.register_buffer("pool_log_k", torch.zeros(size, dtype=torch.float32))

    def check_state(self, model: GeneralRecommender) -> None:
        """See that the pools, if there are any, hold items."""
        if self.kernel_refresh == "epoch":
            check_item_ids(self.pool, self.pool.shape, model)

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Draw the pools anew, if there are any."""
        if self.kernel_refresh == "batch":
            return
        users = torch.arange(len(self.pool), device=self.pool.device)
        for user in users.split(POOL_USERS):
            items, log_k = self._draw(user, encoded, pool, POOL_SIZE)
            self.pool[user] = items.int()
            self.pool_log_k[user] = log_k

    def scored_num(self, item_num: int, batch_size: int) -> int:
        """N, or all proposals for N draws; where all items are scored, that is in parts."""
        if self.kernel_refresh == "batch" and item_num > devices.most_scored(self.on_device):
            return PROPOSALS * self.candidate_num
        return self.candidate_num

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Draw by the kernel, with log K_j."""
        if self.kernel_refresh == "batch":
            items, log_k = self._draw(part.user, encoded, pool, self.candidate_num)
            return Candidates(items, log_q=log_k)
        user = part.user
        slot = torch.randint(POOL_SIZE, (len(user), self.candidate_num), device=user.device)
        slot += (user * POOL_SIZE).unsqueeze(1)
        log_k = self.pool_log_k.view(-1)[slot]
        return Candidates(self.pool.view(-1)[slot].long(), log_q=log_k)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Weight every draw by its importance."""
        return Selection(weight=softmax_weight(scores.neg, 1.0, candidates.log_q))

    def _draw(
        self, user: Tensor, encoded: Encoded, pool: NegativePool, num: int
    ) -> tuple[Tensor, Tensor]:
        """``num`` items of each user and their log K_j, both ``[users, num]``."""
        rejects = pool.item_num > devices.most_scored(user) and encoded.item_table is not None
        if rejects:
            items = self._draw_by_rejection(user, encoded, pool, num)
        else:

            def allowed_scores(users: Tensor) -> Tensor:
                return pool.exclude(users, encoded.user_scores(users, None))

            parts = user.split(max(1, devices.pairs_at_once(user) // pool.item_num))
            drawn = [draw_by_kernel(allowed_scores(each), self.kernel_alpha, num) for each in parts]
            items = torch.cat(drawn)
        return items, kernel(encoded.user_scores(user, items), self.kernel_alpha).log().float()

    def _draw_by_rejection(
        self, user: Tensor, encoded: Encoded, pool: NegativePool, num: int
    ) -> Tensor:
        """``num`` items of each user, ``[users, num]``, without scoring all."""
        alpha, item_num = self.kernel_alpha, pool.item_num
        table = encoded.item_table.detach().to(torch.float64, copy=True)
        table[0] = 0  # the padding id
        square = table.square().sum(dim=1)
        mass = square.cumsum(dim=0)
        user_e = encoded.user_table.detach()[user].double()
        bound = alpha * user_e.square().sum(dim=1)
        # the fraction of proposals that will be accepted is known, but for the user's own items
        proposed = bound * mass[-1] + item_num - 1
        accepted_fraction = kernel_sum(user_e, table.t() @ table, alpha, item_num - 1) / proposed
        wanted = (4 / accepted_fraction).ceil().nan_to_num(PROPOSALS)
        proposals = int(wanted.amax().clamp(max=PROPOSALS))
        bound = bound.repeat_interleave(num).unsqueeze(1)
        user = user.repeat_interleave(num)
        item = torch.empty_like(user)
        pending = torch.arange(len(user), device=user.device)

        def uniform() -> Tensor:
            return torch.rand(len(pending), proposals, dtype=mass.dtype, device=mass.device)

        for _ in range(ROUNDS):
            # the proposal is a mixture of items by their squared norm and of all items alike
            by_norm = bound[pending] * mass[-1]
            by_norm = uniform() * (by_norm + item_num - 1) < by_norm
            heavy = torch.searchsorted(mass, uniform() * mass[-1], right=True)
            alike = torch.randint(1, item_num, heavy.shape, device=user.device)
            proposal = torch.where(by_norm, heavy.clamp_(max=item_num - 1), alike)
            k = kernel(encoded.user_scores(user[pending], proposal), alpha)
            accepted = uniform() * (bound[pending] * square[proposal] + 1) < k
            first = accepted.byte().argmax(dim=1, keepdim=True)
            found = proposal.gather(1, first).squeeze(1)
            item[pending] = found
            # if the first is the user's own, the next round goes on instead
            again = ~accepted.gather(1, first).squeeze(1) | pool.is_used(user[pending], found)
            pending = pending[again]
            if not len(pending):
                break
        else:
            item[pending] = pool.draw(user[pending], 1).squeeze(1)
        return item.view(-1, num)


def kernel(scores: Tensor, alpha: float) -> Tensor:
    """K_j = alpha r_uj^2 + 1, float64, the shape of ``scores``."""
    # in place, as fresh memory would cost more than the arithmetic
    return scores.to(torch.float64, copy=True).square_().mul_(alpha).add_(1)


def kernel_sum(user_e: Tensor, gram: Tensor, alpha: float, num: int) -> Tensor:
    """Sum of K_j over all items, without scoring them.

    Args:
        user_e: ``[batch, dim]``.
        gram: sum over the items of their embedding's outer product, ``[dim, dim]``.
        alpha: >= 0.
        num: number of items.

    Returns:
        ``[batch]``.
    """
    return alpha * ((user_e @ gram) * user_e).sum(dim=1) + num


def draw_by_kernel(scores: Tensor, alpha: float, num: int) -> Tensor:
    """Draw items with probability proportional to K_j, with replacement.

    Args:
        scores: ``[batch, item_num]``; minus infinity is never drawn.
        alpha: >= 0.
        num: draws of each row.

    Returns:
        Columns, ``[batch, num]``, int64.
    """
    # float64: beside a sum of thousands of large ones, float32 loses the small
    mass = kernel(scores, alpha).masked_fill_(scores == -torch.inf, 0).cumsum_(dim=1)
    position = torch.rand(len(scores), num, dtype=mass.dtype, device=mass.device) * mass[:, -1:]
    return torch.searchsorted(mass, position, right=True).clamp_(max=scores.shape[1] - 1)
