"""IRGAN: negatives from a generator that is trained beside the recommender."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import check_item_ids
from recbole_hns.data import NegativePool
from recbole_hns.data.interactions import rows
from recbole_hns.errors import UserError
from recbole_hns.ops.optimizer import load_optimizer
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Of the generator's Adam.
LEARNING_RATE = 1e-3

#: Users in one update of the generator.
USERS = 16

#: Draws of the generator for each of a user's positives in one update.
DRAWS = 2

#: The generator's log-probabilities are not taken below this.
LOWEST = -30.0


@register_sampler("irgan")
class IRGAN(HardNegativeSampler):
    """Draws of a generator, in a minimax game with the model (Wang et al., SIGIR 2017).

    The discriminator is the RecBole model, which is the one evaluated; f_uj is its score. It learns
    by BPR from one negative for each positive, drawn from softmax(g_u / temperature) over the items
    that are no positives of the user's. The generator is matrix factorisation with item biases and
    scores g_uj, of the model's embedding size. It learns by REINFORCE: with p = softmax(g_u) over
    all items, 2 items for each of a user's positives i are drawn from p' = (1 - mix) p + mix times
    uniform over the user's positives, and the loss is the mean of -rew_j (p_j / p'_j) log p_j with
    the reward rew_j = 2 sigmoid(f_uj - f_ui) - 1, which carries no gradient.

    ``irgan_cycle`` [D, G]: after D epochs of the model the generator has G passes over the users,
    and then the negatives are drawn anew. The epochs of a run are the model's.

    The paper's reward is log(1 + exp(f)) with its expectation as a baseline; the bounded reward,
    the mixed proposal and the temperature are of the authors' program. It trains pointwise,
    excludes no positives, has a cycle of 100 and 50 epochs, starts the generator from a DNS model
    and evaluates it; here the game is over pairs, the generator starts at random, and a shorter
    cycle fits the usual number of epochs.
    """

    can_share = False

    candidate_num: Literal[1] = Field(1, description="one negative is drawn")
    candidate_distribution: Literal["uniform"] = Field("uniform", description="fixed; not used")
    irgan_temperature: float = Field(0.2, gt=0, description="temperature of the negatives' draws")
    irgan_mix: float = Field(
        0.2, ge=0, lt=1, description="fraction of positives in the draws the generator learns from"
    )
    irgan_cycle: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = Field(
        [5, 2], description="epochs of the model, and passes of the generator that follow"
    )

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make the generator, whose tables are no parameters of the model's optimizer."""
        items = getattr(model, "item_embedding", None)
        dim = 64 if items is None else items.embedding_dim
        shapes = {
            "user": (model.n_users, dim),
            "item": (model.n_items, dim),
            "bias": (model.n_items,),
        }
        for name, shape in shapes.items():
            self.register_buffer(f"generator_{name}", torch.empty(shape).uniform_(-0.05, 0.05))
        self.negatives: Tensor | None = None

    @cached_property
    def optimizer(self) -> torch.optim.Adam:
        """The generator's own; made when the tables are on their device."""
        tables = (self.generator_user, self.generator_item, self.generator_bias)
        return torch.optim.Adam([table.requires_grad_() for table in tables], lr=LEARNING_RATE)

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the generator."""
        return {"optimizer": self.optimizer.state_dict(), "negatives": self.negatives}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        load_optimizer(self.optimizer, state["optimizer"])
        self.negatives = state["negatives"]

    def check_state(self, model: GeneralRecommender) -> None:
        """See that the negatives are items."""
        if self.negatives is not None:
            check_item_ids(self.negatives, (self.negatives.numel(),), model)

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """At the end of a cycle train the generator, and draw negatives for the next."""
        length, passes = self.irgan_cycle
        if epoch % length:
            known = pool.tables(self.generator_user.device).pair
            if self.negatives is None or len(self.negatives) != len(known):
                allowed = f"the checkpoint has not one negative for each of {len(known)} pairs"
                raise UserError.of("sampler", self.name, allowed)
            return
        offset = pool.tables(self.generator_user.device).offset
        users = offset.diff().nonzero().squeeze(1)
        size = encoded.pairs_in_memory // pool.item_num + 1
        if epoch:
            for _ in range(passes):
                order = users[torch.randperm(len(users)).to(users.device)]
                for batch in order.split(min(size, USERS)):
                    self._update(batch, encoded, pool)
        drawn = [self.draw_negatives(batch, pool) for batch in users.split(size)]
        self.negatives = torch.cat(drawn).int()

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """The negative that the generator drew for each pair in this cycle."""
        assert self.negatives is not None  # since the first epoch started
        known = pool.tables(part.user.device).pair
        entry = torch.searchsorted(known, part.user * pool.item_num + part.pos_item)
        return Candidates(self.negatives[entry].long().unsqueeze(1))

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take the one that was drawn."""
        return Selection()

    def draw_negatives(self, user: Tensor, pool: NegativePool) -> Tensor:
        """Draw a negative for each interaction of users.

        Args:
            user: ``[batch]``, int64, ascending.
            pool: knows the interactions.

        Returns:
            Item ids, one for every item of the first user, then of the second, ...
        """
        logits = pool.exclude(user, self.generator_scores(user) / self.irgan_temperature)
        row, _ = self._interactions(user, pool)
        return draw_rows(torch.softmax(logits.double(), dim=1), row)

    def generator_scores(self, user: Tensor) -> Tensor:
        """g_uj of every item, ``[batch, item_num]``; the padding item scores minus infinity."""
        scores = self.generator_user[user] @ self.generator_item.t() + self.generator_bias
        padding = torch.arange(scores.shape[1], device=scores.device) == 0
        return scores.masked_fill(padding, -torch.inf)

    def proposal(self, log_p: Tensor, user: Tensor, pool: NegativePool) -> Tensor:
        """p', ``[batch, item_num]``, from log p of the same shape."""
        row, item = self._interactions(user, pool)
        fraction = self.irgan_mix / torch.bincount(row, minlength=len(user))[row].to(log_p.dtype)
        return ((1 - self.irgan_mix) * log_p.exp()).index_put(
            (row, item), fraction, accumulate=True
        )

    def _update(self, user: Tensor, encoded: Encoded, pool: NegativePool) -> None:
        self.optimizer.zero_grad()  # from its first use on, the tables require gradient
        with torch.enable_grad():
            log_p = torch.log_softmax(self.generator_scores(user), dim=1)
        proposal = self.proposal(log_p.detach(), user, pool)
        row, positive = self._interactions(user, pool)
        items = draw_rows(proposal.double(), row.repeat_interleave(DRAWS)).view(-1, DRAWS)
        pos_scores, scores = (
            encoded.user_scores(user[row], each) for each in (positive.unsqueeze(1), items)
        )
        reward = 2 * torch.sigmoid(scores - pos_scores) - 1
        with torch.enable_grad():
            loss = reinforce_loss(log_p, proposal, row, items, reward)
        loss.backward()
        self.optimizer.step()

    @staticmethod
    def _interactions(user: Tensor, pool: NegativePool) -> tuple[Tensor, Tensor]:
        """Index in ``user`` and item of each of the users' interactions."""
        table = pool.tables(user.device)
        return rows(table.offset, table.item, user)


def reinforce_loss(
    log_p: Tensor, proposal: Tensor, row: Tensor, items: Tensor, reward: Tensor
) -> Tensor:
    """Mean over users of the mean over their draws of -rew_j (p_j / p'_j) log p_j.

    Args:
        log_p: ``[users, item_num]``, with gradient.
        proposal: p', ``[users, item_num]``, without.
        row: the user of each draw, ``[num]``, int64.
        items: items drawn from p', ``[num, draws]``, int64.
        reward: ``[num, draws]``.

    Returns:
        A scalar.
    """
    each = log_p[row.unsqueeze(1), items]
    importance = each.detach().exp() / proposal[row.unsqueeze(1), items]
    terms = (-reward * importance * each.clamp(min=LOWEST)).mean(dim=1)
    return (terms / torch.bincount(row)[row]).sum() / len(log_p)


def draw_rows(weight: Tensor, row: Tensor) -> Tensor:
    """Draw columns with probability proportional to their weight in a row, with replacement.

    Args:
        weight: ``[rows, columns]``, float64, >= 0, each row with a sum > 0.
        row: the row of each draw, ``[num]``, int64.

    Returns:
        Columns, ``[num]``, int64.
    """
    mass = weight.cumsum(dim=1)
    start = torch.arange(len(mass), dtype=mass.dtype, device=mass.device).unsqueeze(1)
    # one ascending sequence for all rows: row r covers r to r + 1
    mass = mass / mass[:, -1:] + start
    position = torch.rand(len(row), dtype=mass.dtype, device=mass.device) + row
    # what is just below the end of the row may round up to it
    end = (row + 1).to(mass.dtype)
    position = position.minimum(torch.nextafter(end, torch.zeros_like(end)))
    found = torch.searchsorted(mass.reshape(-1), position, right=True)
    return found - row * mass.shape[1]
