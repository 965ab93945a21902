"""Models whose embeddings are means over layers, for samplers that choose at every layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from recbole.model.general_recommender import BPR, LightGCN
from torch import Tensor

from recbole_hns.model.base import Losses, replaced, score_sums
from recbole_hns.model.graph import AllLayers, adjacencies
from recbole_hns.model.inner_product import (
    InnerProductModel,
    emb_loss_with,
    full_precision,
    propagates_as_light_gcn,
)
from recbole_hns.model.parts import PartSums
from recbole_hns.model.scores import Table, list_scores, look_up

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.data.candidates import CandidateSampler
    from recbole_hns.sampler.layered import LayeredSampler


class Layers(NamedTuple):
    """Embeddings of all users and items at each of H layers.

    Layer 0 is what is learnt. A score is the inner product of a user's and an item's means over
    the layers.

    Attributes:
        user: H tables, ``[user_num, dim]``.
        item: H tables, ``[item_num, dim]``.
    """

    user: tuple[Table, ...]
    item: tuple[Table, ...]

    def users(self, user: Tensor) -> Tensor:
        """Rows of users, ``[batch]``, at every layer: ``[H, batch, dim]``."""
        return look_up(self.user, [user] * len(self.user))

    def items(self, items: Tensor) -> Tensor:
        """Rows of items, ``[batch, N]``, at every layer: ``[H, batch, N, dim]``."""
        rows = look_up(self.item, [items.reshape(-1)] * len(self.item))
        return rows.view(len(rows), *items.shape, -1)

    def pairs(self, pos_item: Tensor, picked: Tensor) -> Tensor:
        """Rows of positives, and of the item that was picked at each layer.

        Args:
            pos_item: ``[batch]``, int64.
            picked: ``[H, batch]``, int64.

        Returns:
            ``[H, 2, batch, dim]``.
        """
        rows = look_up(self.item, [torch.cat([pos_item, items]) for items in picked])
        return rows.view(len(rows), 2, len(pos_item), -1)

    def scores(self, user_e: Tensor, items: Tensor | None) -> Tensor:
        """Inner products of one vector a user with items at every layer.

        Args:
            user_e: ``[batch, dim]``.
            items: ``[batch, N]``, int64; None for all items.

        Returns:
            ``[H, batch, N]``.
        """
        if items is None:
            return torch.stack([user_e @ table.values.t() for table in self.item])
        return torch.stack([list_scores(user_e, table.values, items) for table in self.item])


class LayeredModel(InnerProductModel):
    """BPR, which is one layer, and LightGCN.

    Attributes:
        layers: the embeddings, inside :meth:`step`.
    """

    models: ClassVar[tuple[type, ...]] = (BPR, LightGCN)

    @classmethod
    def knows(cls, model: type[GeneralRecommender]) -> bool:
        """Whether the model is one of these, or a subclass that scores in the same way."""
        graph = issubclass(model, LightGCN)
        return super().knows(model) and (not graph or propagates_as_light_gcn(model))

    def __init__(self, model: GeneralRecommender) -> None:
        super().__init__(model)
        table = model.item_embedding.weight
        num = 1 if isinstance(model, BPR) else model.n_layers + 1
        self.row_bytes = table.shape[1] * table.element_size() * num
        #: :class:`Layers` inside a step, else None
        self.layers: Any = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Propagate once for all that happens inside, and keep every layer."""
        model = self.model
        with ExitStack() as stack:
            stack.enter_context(adjacencies(model, self._adjacencies))
            if isinstance(model, BPR) or model.n_layers == 0:
                self.layers = Layers(*((Table.of(table),) for table in self._leaf_tables()))
            else:
                self.layers = full_precision(self._propagated)()
            if not isinstance(model, BPR):
                # its scores have no part in the loss, so that any tables will do
                tables = self.layers.user[0].values, self.layers.item[0].values
                stack.enter_context(replaced(model, "forward", lambda: tables))
            yield
        self.user_table = self.item_table = self._user_e = self._scored = self.layers = None

    def _propagated(self) -> Layers:
        model = self.model
        ego = model.get_ego_embeddings()
        if self._grads is None:
            self._grads = [torch.empty_like(ego) for _ in range(model.n_layers + 1)]
        grads = [grad.zero_() for grad in self._grads]
        every = AllLayers(ego, model.norm_adj_matrix, grads)

        def tables(start: int, end: int) -> tuple[Table, ...]:
            return tuple(
                Table(layer[start:end], every.source, grad[start:end])
                for layer, grad in zip(every.layers, grads, strict=True)
            )

        return Layers(tables(0, model.n_users), tables(model.n_users, len(ego)))

    def scores(
        self, user: Tensor, pos_item: Tensor, items: Tensor | None, candidates: CandidateSampler
    ) -> tuple[Tensor, Tensor]:
        """As the base class says."""
        if self.user_table is None:
            self.user_table, self.item_table = (
                torch.stack([table.values for table in tables]).mean(dim=0)
                for tables in self.layers
            )
        return super().scores(user, pos_item, items, candidates)

    def learn(
        self,
        user: Tensor,
        pos_item: Tensor,
        size: int,
        candidates: CandidateSampler,
        sampler: Any,
    ) -> tuple[Losses, Tensor]:
        """As the base class says; the sampler's loss is computed from the layers."""
        if size >= len(user):
            learnt = sampler.learn(self.layers, user, pos_item, candidates)
            negatives = learnt.negatives
            pairwise = learnt.losses.mean()
            sums = score_sums(learnt.pos_scores, learnt.scores)
        else:
            pairwise, negatives, sums = self._in_parts(user, pos_item, size, candidates, sampler)
        emb_loss = emb_loss_with(lambda: negatives)
        return self._model_loss(user, pos_item, pos_item, pairwise, emb_loss), sums.detach()

    def _in_parts(
        self,
        user: Tensor,
        pos_item: Tensor,
        size: int,
        candidates: CandidateSampler,
        sampler: LayeredSampler,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss, a number whose square is the negatives' squared norm, and the two sums."""
        num = len(self.layers.user)
        parts = PartSums([*self.layers.user, *self.layers.item], sampler.parameters(), num=2)
        tables = tuple(Table.of(leaf) for leaf in parts.leaves)
        layers = Layers(tables[:num], tables[num:])
        sums = torch.zeros(2, dtype=torch.float64, device=user.device)
        for users, positives in zip(user.split(size), pos_item.split(size), strict=True):
            learnt = sampler.learn(layers, users, positives, candidates)
            parts.add(learnt.losses.sum(), learnt.negatives.square().sum())
            sums += score_sums(learnt.pos_scores, learnt.scores).detach()
        losses, squares = parts.totals()
        # the root's derivative at 0 is infinite
        root = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
        return losses / len(user), root.view(1), sums
