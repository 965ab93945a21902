"""SRNS: a memory of candidates for each user, and the variance of their scores over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import check_item_ids
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.ops.list_scores import list_scores
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Epochs whose scores are looked back at.
HISTORY = 5


@register_sampler("srns")
class SRNS(HardNegativeSampler):
    """From a user's memory, the candidate of high and changing score (Ding et al., NeurIPS 2020).

    Each user has a memory of S1 candidates. With P(j) = sigmoid(r_uj - r_ui) and std_j its standard
    deviation over the ends of the last 5 epochs, the negative is the argmax over the memory of
    P(j) + A std_j, where A rises linearly from 0 to ``srns_alpha`` in ``srns_warmup`` epochs; a
    false negative keeps a steady high score. Fewer than two epochs have std 0. Then, once for every
    user in the batch, S2 random candidates join the memory, and S1 of them all stay, drawn without
    replacement with probability softmax(r_uj / tau). ``candidate_num`` is S1 + S2.

    The rule is that of the authors' program for real data. It draws from a list of 3,000 items a
    user with their recorded scores, and its memory holds indices into this list; here it holds
    items, the embeddings of the last 5 epoch ends are kept instead of scores,
    5 (users + items) d numbers, and the memory is renewed with the scores that the batch was
    chosen by. A batch that is learned from in parts renews it in each part.

    Raises:
        UserError: unless S1 < ``candidate_num``.
    """

    needs = "embeddings"
    can_share = False
    divides = False

    candidate_num: Annotated[int, Field(gt=1, le=10**6)] = Field(
        72, description="S1 + S2, candidates scored for a positive"
    )
    srns_memory: PositiveInt = Field(8, description="S1, candidates in a user's memory")
    srns_alpha: float = Field(5.0, ge=0, description="alpha, weight of the standard deviation")
    srns_warmup: int = Field(
        50, ge=0, description="epochs in which the weight rises to srns_alpha; 0 = constant"
    )
    srns_tau: float = Field(10.0, gt=0, description="tau, temperature of the memory's renewal")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.srns_memory >= self.candidate_num:
            allowed = f"must be < candidate_num={self.candidate_num}, which counts new ones too"
            raise UserError.of("srns_memory", self.srns_memory, allowed)

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make room for the memory."""
        memory = torch.zeros(model.n_users, self.srns_memory, dtype=torch.int64)
        self.register_buffer("memory", memory)
        self.history: list[list[Tensor]] = []

    def get_extra_state(self) -> list[list[Tensor]]:
        """The embeddings at the last epoch ends, for a checkpoint."""
        return self.history

    def set_extra_state(self, state: list[list[Tensor]]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        self.history = state

    def check_state(self, model: GeneralRecommender) -> None:
        """See that the memory holds items, and that the embeddings are those of all of them."""
        check_item_ids(self.memory, self.memory.shape, model)
        sizes = model.n_users, model.n_items
        for tables in self.history:
            user, item = tables
            dims = {user.shape[1:], item.shape[1:]}
            plain = all(table.is_contiguous() and table.is_floating_point() for table in tables)
            if (len(user), len(item)) != sizes or len(dims) > 1 or user.dim() != 2 or not plain:
                raise ValueError(f"embeddings of other users and items than {sizes}")

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Fill the memory at first, later keep the embeddings that the last epoch ended with."""
        if epoch == 0:
            user = torch.arange(1, len(self.memory), device=self.memory.device)
            self.memory[1:] = pool.draw(user, self.srns_memory)
            return
        tables = (encoded.user_table, encoded.item_table)
        self.history = [
            *self.history[1 - HISTORY :],
            [table.detach().clone() for table in tables],
        ]

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """The memory of each row's user, then new candidates."""
        new = pool.draw(part.user, self.candidate_num - self.srns_memory)
        return Candidates(torch.cat([self.memory[part.user], new], dim=1))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Choose from the memory, and renew it."""
        num, items = self.srns_memory, candidates.items
        assert items is not None  # as they were proposed
        value = torch.sigmoid(scores.neg[:, :num] - scores.pos)
        if len(self.history) > 1:
            deviation = self.deviation(part.user, part.pos_item, items[:, :num])
            value += self.deviation_weight() * deviation
        columns = value.argmax(dim=1, keepdim=True)
        self._renew(part.user, items, scores.neg)
        return Selection(columns)

    def deviation(self, user: Tensor, pos_item: Tensor, items: Tensor) -> Tensor:
        """Population standard deviation of P over the epochs looked back at.

        Args:
            user: ``[batch]``, int64.
            pos_item: ``[batch]``, int64.
            items: ``[batch, N]``, int64.

        Returns:
            ``[batch, N]``.
        """
        listed = torch.cat([pos_item.unsqueeze(1), items], dim=1)
        scores = torch.stack(
            [list_scores(user_table[user], table, listed) for user_table, table in self.history]
        )
        return torch.sigmoid(scores[..., 1:] - scores[..., :1]).std(dim=0, correction=0)

    def deviation_weight(self) -> float:
        """A of the epoch under way."""
        if self.srns_warmup == 0:
            return self.srns_alpha
        return self.srns_alpha * min(1.0, self.epoch / self.srns_warmup)

    def _renew(self, user: Tensor, items: Tensor, scores: Tensor) -> None:
        """Draw the memory anew, for each user by its first row."""
        row = torch.arange(len(user), device=user.device)
        first = row.new_full((len(self.memory),), len(user))
        first = first.scatter_reduce_(0, user, row, "amin")
        mine = (first[user] == row).nonzero().squeeze(1)
        items = items[mine]
        # the largest of scores with Gumbel noise are a draw without replacement
        keys = scores[mine] / self.srns_tau - torch.empty_like(scores[mine]).exponential_().log()
        ascending, order = items.sort(dim=1, stable=True)
        repeated = torch.zeros_like(items, dtype=torch.bool)
        repeated.scatter_(1, order[:, 1:], ascending[:, 1:] == ascending[:, :-1])
        # one that is there already takes no second slot, unless there are too few
        keys = keys.masked_fill(repeated, -torch.inf)
        kept = keys.topk(self.srns_memory, dim=1).indices
        self.memory[user[mine]] = items.gather(1, kept)
