"""AOBPR: adaptive oversampling of negatives by the factors of the embeddings (WSDM 2014)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from recbole_hns.batch import Batch, Candidates, Encoded, Scores, Selection
from recbole_hns.component import check_item_ids
from recbole_hns.data import NegativePool
from recbole_hns.sampler.base import HardNegativeSampler
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

#: After so many draws that hit the user's own items, one is drawn uniformly from the others.
ROUNDS = 32


@register_sampler("aobpr")
class AOBPR(HardNegativeSampler):
    """One negative of a low rank by one factor: p(j|u) = sum_f p(f|u) p(rank of j by f).

    A factor f is drawn with p(f|u) proportional to |e_uf| s_f, s_f being the standard deviation of
    the items' f-th coordinate, and a rank rho = 0, 1, ... below the number of items n with p(rho)
    proportional to exp(-rho / lambda). The negative is the item of that rank by f-th coordinate,
    from the highest if e_uf > 0, else from the lowest. A draw of the user's own item is repeated,
    factor and rank; after 32 times the negative is uniform. The loss is BPR's.

    Rankings and s_f are taken at the start and again whenever n ln n negatives were drawn. Needs
    embeddings, which are the propagated ones in graph models.

    Source: Rendle & Freudenthaler, WSDM 2014, as secondary sources give it. Programs differ: some
    have the variance for s_f, some do not repeat draws; librec's shipped lambda is multiplied by n
    and so has no effect.
    """

    needs = "embeddings"
    can_share = False

    candidate_num: Literal[1] = Field(1, description="one negative is drawn")
    candidate_distribution: Literal["uniform"] = Field("uniform", description="fixed")
    aobpr_lambda: float = Field(500.0, gt=0, description="lambda, in ranks; smaller is harder")

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Nothing is ranked yet."""
        self._state: dict[str, Any] = {"drawn": math.inf}

    # buffers would need the number of factors before the model has propagated

    def get_extra_state(self) -> dict[str, Any]:
        """Rankings, deviations and the number of draws since, for the checkpoint."""
        return self._state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with those of a checkpoint."""
        self._state = state

    def check_state(self, model: GeneralRecommender) -> None:
        """See that the rankings hold items, if there are any yet."""
        if self._state["drawn"] < 0:
            raise ValueError("a number of draws below 0")
        if len(self._state) > 1:
            shape = len(self._state["deviation"]), model.n_items - 1
            check_item_ids(self._state["ranking"], shape, model)
        elif self._state["drawn"] < math.inf:
            raise ValueError("draws without rankings")

    def _rank(self, table: Tensor, num: int) -> None:
        """Rank the items anew where it is time, before ``num`` draws."""
        table = table.detach()[1:]  # without the padding id
        if self._state["drawn"] >= len(table) * math.log(len(table)):
            table = table.t().float().contiguous()
            self._state = {
                "drawn": 0,
                "ranking": (table.argsort(dim=1, descending=True) + 1).int(),
                "deviation": table.std(dim=1),
            }
        self._state["drawn"] += num

    def propose(self, part: Batch, encoded: Encoded, pool: NegativePool) -> Candidates:
        """Draw one negative for each row."""
        user = part.user
        self._rank(encoded.item_table, len(user))
        user_e = encoded.user_table.detach().index_select(0, user).float()
        mass = (user_e.abs() * self._state["deviation"]).double().cumsum(dim=1)
        total = mass[:, -1:]
        every = torch.arange(1, mass.shape[1] + 1, dtype=mass.dtype, device=user.device)
        mass = torch.where((total > 0) & total.isfinite(), mass, every)
        item = self._propose(user_e, mass)
        row = pool.is_used(user, item).nonzero().squeeze(1)
        for _ in range(ROUNDS - 1):
            if not len(row):
                break
            item[row] = self._propose(user_e[row], mass[row])
            row = row[pool.is_used(user[row], item[row])]
        else:
            item[row] = pool.draw(user[row], 1).squeeze(1)
        return Candidates(item.unsqueeze(1))

    def _propose(self, user_e: Tensor, mass: Tensor) -> Tensor:
        """One item a row, ``[rows]``; ``mass`` sums up what p(f|u) is proportional to."""
        ranking = self._state["ranking"]
        n = ranking.shape[1]
        position = torch.rand_like(mass[:, :1]) * mass[:, -1:]
        factor = torch.searchsorted(mass, position, right=True).clamp_(max=mass.shape[1] - 1)
        rank = truncated_geometric(self.aobpr_lambda, n, factor.shape, mass.device)
        rank = torch.where(user_e.gather(1, factor) > 0, rank, n - 1 - rank)
        return ranking[factor, rank].squeeze(1).long()

    def select(self, scores: Scores, candidates: Candidates, part: Batch) -> Selection:
        """Take the one that was drawn."""
        return Selection()


def truncated_geometric(scale: float, n: int, shape: torch.Size, device: torch.device) -> Tensor:
    """Draw ranks rho = 0, ..., n - 1 with probability proportional to exp(-rho / scale).

    Args:
        scale: > 0; far above n, all ranks are as likely.
        n: number of ranks.
        shape: of the result.
        device: of the result.

    Returns:
        int64.
    """
    uniform = torch.rand(shape, dtype=torch.float64, device=device)
    # the inverse of the distribution function
    rank = -scale * torch.log1p(uniform * math.expm1(-n / scale))
    return rank.long().clamp_(0, n - 1)
