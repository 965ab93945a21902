"""AdaSIR: pools of negatives made by adaptive sampling-importance resampling (WWW 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import check_item_ids
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.sampler.base import Count, HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler
from recbole_hns.sampler.softmax import softmax_weight

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: Scores that a refresh of the pools has in memory at a time.
REFRESH_PAIRS = 2**18


@register_sampler("adasir")
class AdaSIR(HardNegativeSampler):
    """N candidates from the user's pool of S, w_j proportional to exp(r_uj) v_j.

    Before an epoch's first batch each user draws A items from q, weights them by
    v = softmax(r_ua - log q_a) over these A and resamples S of them with replacement by v. In the
    first epoch they are the pool; later each of the pool's S slots is filled by one draw, with
    replacement, from the old pool and the new S. Items keep their v. A positive takes N slots of
    its user's pool, uniformly and with replacement.

    ``adasir_correction`` says how v enters the weights: ``program`` multiplies by it, as the
    authors' program does, although it drew by v already, so that hard items count about three times
    as hard as by their score; ``none`` leaves it out (their unweighted class); ``inverse`` divides
    by it, which corrects for having drawn by v.

    AdaSIR(U) draws the A uniformly; AdaSIR(P), with ``candidate_distribution: popularity``, with
    q proportional to log(1 + count), or to the count to the power ``candidate_alpha``.

    Source: Chen et al., WWW 2022, by its abstract, and the authors' program, which is followed but
    for the user's own items: it draws them too. Its rank-weighted variant is not in the papers'
    tables, nor here.

    Raises:
        UserError: if S > A or N > S.
    """

    can_share = False

    candidate_num: Count = Field(5, description="N, candidates per positive, of the pool")
    candidate_distribution: Literal["uniform", "popularity"] = Field(
        "uniform", description="q: AdaSIR(U) or AdaSIR(P)"
    )
    candidate_alpha: float | None = Field(
        None, ge=0, description="power of the popularity; unset is its log(1 + count)"
    )
    adasir_pool_size: Count = Field(50, description="S, items of a user's pool")
    adasir_sample_size: Count = Field(200, description="A, items that S are resampled from")
    adasir_correction: Literal["program", "none", "inverse"] = Field(
        "program", description="multiply the weights by v, leave it out, or divide by it"
    )
    adasir_refresh: Count = Field(1, description="epochs between two refreshes of the pools")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        size = self.adasir_pool_size
        if size > self.adasir_sample_size:
            allowed = f"must be <= adasir_sample_size={self.adasir_sample_size}"
            raise UserError.of("adasir_pool_size", size, allowed)
        if self.candidate_num > size:
            raise UserError.of(
                "candidate_num", self.candidate_num, f"must be <= adasir_pool_size={size}"
            )

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make room for the pools."""
        size = model.n_users, self.adasir_pool_size
        self.register_buffer("pool", torch.zeros(size, dtype=torch.int32))
        self.register_buffer("pool_log_v", torch.zeros(size, dtype=torch.float32))
        self.register_buffer("filled", torch.tensor(False))

    def check_state(self, model: GeneralRecommender) -> None:
        """See that the pools hold items."""
        check_item_ids(self.pool, self.pool.shape, model)

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Refresh the users' pools where it is time."""
        if epoch % self.adasir_refresh and self.filled:
            return
        users = torch.arange(len(self.pool), device=self.pool.device)
        for user in users.split(max(1, REFRESH_PAIRS // self.adasir_sample_size)):
            items, log_v = self._resample(user, encoded, pool)
            if self.filled:
                both = 2 * self.adasir_pool_size
                slot = torch.randint(both, items.shape, device=items.device)
                items = torch.cat([self.pool[user].long(), items], dim=1).gather(1, slot)
                log_v = torch.cat([self.pool_log_v[user], log_v], dim=1).gather(1, slot)
            self.pool[user] = items.int()
            self.pool_log_v[user] = log_v
        self.filled.fill_(True)

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Take N slots of each user's pool."""
        shape = len(part.user), self.candidate_num
        slot = torch.randint(self.adasir_pool_size, shape, device=part.user.device)
        slot += (part.user * self.adasir_pool_size).unsqueeze(1)
        log_v = self.pool_log_v.view(-1)[slot]
        log_q = {"program": -log_v, "none": None, "inverse": log_v}[self.adasir_correction]
        return Candidates(self.pool.view(-1)[slot].long(), log_q=log_q)

    def _resample(
        self, user: Tensor, encoded: Encoded, pool: NegativePool
    ) -> tuple[Tensor, Tensor]:
        """S items of each user and their log v, both ``[users, S]``."""
        items = pool.draw(user, self.adasir_sample_size)
        scores = encoded.user_scores(user, items).float()
        if self.candidate_distribution == "popularity":
            scores = scores - pool.log_mass(items)
        log_v = torch.log_softmax(scores, dim=1)
        mass = log_v.exp().cumsum(dim=1)
        shape = len(user), self.adasir_pool_size
        position = torch.rand(shape, device=user.device) * mass[:, -1:]
        picked = torch.searchsorted(mass, position, right=True).clamp_(max=mass.shape[1] - 1)
        return items.gather(1, picked), log_v.gather(1, picked)

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Weight every candidate by its importance."""
        return Selection(weight=softmax_weight(scores.neg, 1.0, candidates.log_q))
