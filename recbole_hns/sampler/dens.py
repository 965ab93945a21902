"""DENS: disentangled negative sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from recbole_hns.batch import Batch, Scores
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError
from recbole_hns.ops.list_scores import list_scores
from recbole_hns.sampler.layered import (
    EncodedLayers,
    LayeredLosses,
    LayeredSampler,
    mean_over_layers,
)
from recbole_hns.sampler.registry import register_sampler

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.ops.tables import Layers
    from recbole_hns.sampler.layered import LossFunction

#: Numbers in the tensor of candidate embeddings that gates are applied to at a time; so many stay
#: in a processor's cache.
GATED_AT_ONCE = 2**17


@register_sampler("dens")
class DENS(LayeredSampler):
    """The candidate that differs from the positive in what matters least (Lai et al., TOIS 2024).

    Gates split an embedding at layer h into a part relevant to the user and an irrelevant rest:

    - positive: p_r = e_i * sigmoid(W_i e_i + W_u e_u), p_ir = e_i - p_r;
    - candidate: n_r = e_j * sigmoid(W_n e_j + W_p p_r), n_ir = e_j - n_r;

    the four W being linear layers with bias, shared by the layers of the model. At each layer the
    candidate of the largest (1 - A) <e_u, n_ir> - A <e_u, n_r> is chosen, and all of its e_j is the
    negative, so that layers of different items may be combined. To the loss is added gamma / 4
    times the sum of four terms, with the scores <mean(e_u), mean(part)> and s(x) = log(1 + exp(x)):
    s(p_ir - p_r) + s(n_r - n_ir) + s(n_r - p_r) + s(p_ir - n_ir). They train gates and embeddings.
    An L2 term sees the rows of layer 0, and no gates.

    A rises linearly from 0 to ``dens_alpha`` in ``dens_warmup`` epochs, as in DENS's own program
    (where ``dens_alpha`` is 1); ``dens_warmup: 0`` keeps it constant, as in the AHNS authors'. At
    A = 1 the choice is far easier than DNS's, at A = 0 about as hard.

    Raises:
        UserError: for ``dens_gamma: 0``.
    """

    candidate_num: Annotated[int, Field(gt=0, le=10**6)] = Field(
        32, description="N, candidates per positive"
    )
    dens_gamma: float = Field(0.3, gt=0, description="gamma, weight of the gates' loss")
    dens_alpha: float = Field(1.0, ge=0, le=1, description="A, weight of the relevant part")
    dens_warmup: int = Field(
        0, ge=0, description="epochs in which A rises to dens_alpha; 0 = constant"
    )

    def __init__(self, **values: Any) -> None:
        if values.get("dens_gamma") == 0:
            reason = (
                "must be a number > 0: without their loss nothing trains the gates, which would "
                "choose by their random initial values"
            )
            raise UserError.of("dens_gamma", values["dens_gamma"], reason)
        super().__init__(**values)

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Make the gates."""
        dim = model.item_embedding.embedding_dim
        self.positive_gate = nn.Linear(dim, dim)
        self.user_gate = nn.Linear(dim, dim)
        self.candidate_gate = nn.Linear(dim, dim)
        self.relevant_gate = nn.Linear(dim, dim)

    def batch_losses(
        self, part: Batch, encoded: EncodedLayers, pool: NegativePool, loss: LossFunction
    ) -> LayeredLosses:
        """Draw, choose and compute the loss."""
        layers = encoded.layers
        user_e = layers.users(part.user)
        items = part.drawn(lambda rows: pool.draw(rows.user, self.candidate_num))
        with torch.no_grad():
            picked = self.pick(layers, user_e, part.pos_item, items)
        positive, negative = layers.pairs(part.pos_item, picked).unbind(dim=1)
        p_r, n_r = self.relevant(user_e, positive, negative)

        means = torch.stack([mean_over_layers(each) for each in (positive, p_r, negative, n_r)])
        pos, p_r, neg, n_r = (means * mean_over_layers(user_e)).sum(dim=2)
        p_ir, n_ir = pos - p_r, neg - n_r
        differences = torch.stack([p_ir - p_r, n_r - n_ir, n_r - p_r, p_ir - n_ir])
        scores = Scores(pos.unsqueeze(1), neg.unsqueeze(1))
        gates = self.dens_gamma * F.softplus(differences).mean(dim=0).sum() / part.size
        return LayeredLosses(self._loss_of(scores, part, loss) + gates, negative[0], scores)

    def relevant(self, user_e: Tensor, pos_e: Tensor, neg_e: Tensor) -> tuple[Tensor, Tensor]:
        """The relevant parts p_r and n_r, each of the shape of its embeddings, ``[..., dim]``."""
        p_r = pos_e * torch.sigmoid(self.positive_gate(pos_e) + self.user_gate(user_e))
        return p_r, neg_e * torch.sigmoid(self.candidate_gate(neg_e) + self.relevant_gate(p_r))

    def pick(self, layers: Layers, user_e: Tensor, pos_item: Tensor, items: Tensor) -> Tensor:
        """The candidate chosen at each layer.

        Args:
            layers: the model's embeddings.
            user_e: ``[H, batch, dim]``.
            pos_item: ``[batch]``, int64.
            items: candidates, ``[batch, N]``, int64.

        Returns:
            Item ids, ``[H, batch]``, int64.
        """
        weight = self.relevant_weight()
        picked = []
        for user, (table, *_) in zip(user_e, layers.item, strict=True):
            positive = table.index_select(0, pos_item)
            gate = torch.sigmoid(self.positive_gate(positive) + self.user_gate(user))
            relevant = self.relevant_gate(positive * gate)
            scores = -self._relevant_scores(user, table, items, relevant)
            if weight < 1:
                scores += (1 - weight) * list_scores(user, table, items)
            picked.append(items.gather(1, scores.argmax(dim=1, keepdim=True)).squeeze(1))
        return torch.stack(picked)

    def _relevant_scores(
        self, user_e: Tensor, table: Tensor, items: Tensor, relevant: Tensor
    ) -> Tensor:
        """<e_u, n_r> of every candidate, ``[batch, N]``, ``relevant`` being W_p p_r."""
        gates = self.candidate_gate(table) if items.numel() > len(table) else None
        num, dim = items.shape[1], table.shape[1]
        rows = GATED_AT_ONCE // (num * dim) + 1
        scores = []
        for user, ids, shift in zip(
            user_e.split(rows), items.split(rows), relevant.split(rows), strict=True
        ):
            embeddings = table.index_select(0, ids.reshape(-1))
            if gates is None:
                gate = self.candidate_gate(embeddings)
            else:
                gate = gates.index_select(0, ids.reshape(-1))
            gate = gate.view(*ids.shape, dim).add_(shift.unsqueeze(1)).sigmoid_()
            weighted = gate.mul_(embeddings.view_as(gate)).mul_(user.unsqueeze(1))
            scores.append(weighted.sum(dim=2))  # a batched product of such narrow ones is slower
        return torch.cat(scores)

    def relevant_weight(self) -> float:
        """A of the epoch under way."""
        if self.dens_warmup == 0:
            return self.dens_alpha
        return self.dens_alpha * min(1.0, self.epoch / self.dens_warmup)
