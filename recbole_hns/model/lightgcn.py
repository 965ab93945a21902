"""LightGCN, whose embeddings are means over the layers of a propagation without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from recbole.model.general_recommender import LightGCN
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows, full_precision, replaced
from recbole_hns.model.embeddings import EncodedLayers, EncodedTables, LeafTables
from recbole_hns.model.propagated import PropagatedAdapter
from recbole_hns.ops import workers
from recbole_hns.ops.propagation import Adjacency, AllLayers, adjacencies, mean_of_layers
from recbole_hns.ops.tables import Layers, Table, look_up

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


class LightGCNAdapter(PropagatedAdapter):
    """LightGCN and subclasses that propagate as it does."""

    models: ClassVar[tuple[type, ...]] = (LightGCN,)
    has_layers: ClassVar[bool] = True

    @classmethod
    def knows(cls, model: type[GeneralRecommender]) -> bool:
        """Whether the model's tables are LightGCN's, the means over the layers."""
        return super().knows(model) and all(
            getattr(model, name) is getattr(LightGCN, name)
            for name in ("forward", "get_ego_embeddings")
        )

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        super().__init__(model, config)
        self._leaves = LeafTables(model.user_embedding.weight, model.item_embedding.weight)
        self._layer_grads: list[Tensor] | None = None

    def touched_rows(self) -> dict[Tensor, Tensor]:
        """Without propagation, those of the batch and its negatives."""
        return self._leaves.touched_rows()

    def total(
        self,
        encoded: EncodedTables | EncodedLayers,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """The model's loss, its L2 term by rows where the optimiser is one of rows.

        A term without weight is not computed: its gradient would be a table of zeros for each use.
        """
        model, by_rows = self.model, self._by_rows(encoded, negatives)
        if not model.reg_weight and type(model).calculate_loss is LightGCN.calculate_loss:
            # as calculate_loss does: embeddings that were kept for evaluation are none any more
            model.restore_user_e, model.restore_item_e = None, None
            found: Losses = loss
        else:
            with ExitStack() as stack:
                if by_rows:
                    for module in (model.user_embedding, model.item_embedding):
                        rows = partial(_rows, module.weight)
                        stack.enter_context(replaced(module, "forward", rows))
                found = super().total(encoded, batch, loss, negatives, negative_rows)
        if by_rows:
            assert negatives is not None
            self._leaves.touch(batch, negatives)
        return found

    def _by_rows(self, encoded: Any, negatives: Negatives | None) -> bool:
        """Whether only rows of the batch and its negatives have a gradient, and that is of use."""
        return (
            self.steps_by_rows
            and not workers.active()
            and self.model.n_layers == 0
            and type(self.model).calculate_loss is LightGCN.calculate_loss
            and isinstance(encoded, EncodedTables)
            and not encoded.dense
            and negatives is not None
            and negatives.items is not None
            and len(negatives.items) > 1
            and negatives.items.numel() < self.model.n_items
        )

    def _negative_rows(self, encoded: EncodedTables, negatives: Negatives) -> NegativeRows:
        if not self._by_rows(encoded, negatives):
            return super()._negative_rows(encoded, negatives)
        items, weight = negatives.items, negatives.weight
        assert items is not None
        root = items.shape[1] ** -0.5 if weight is None else weight.sqrt().unsqueeze(2)
        return lambda: self.model.item_embedding(items) * root

    @property
    def row_bytes(self) -> int:
        """Bytes of an item's embeddings at all layers."""
        table = self.model.item_embedding.weight
        return table.shape[1] * table.element_size() * (self.model.n_layers + 1)

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Propagate once, keeping every layer where they are wanted."""
        model = self.model
        with ExitStack() as stack:
            stack.enter_context(adjacencies(model, self._adjacencies))
            encoded: Any
            if layers:
                one = model.n_layers == 0
                encoded = self._leaves.as_layers() if one else full_precision(self._all_layers)()
                # its scores have no part in the loss, so that any tables will do
                user, item = encoded.layers
                tables: tuple[Tensor, ...] = (user[0].values, item[0].values)
            else:
                tables = self._leaves.cleared() if model.n_layers == 0 else self._propagate()
                encoded = self._encoded(*tables)
            stack.enter_context(replaced(model, "forward", lambda: tables))
            yield encoded

    def _propagate(self) -> tuple[Tensor, ...]:
        model = self.model
        if model.n_layers == 0:
            return model.user_embedding.weight, model.item_embedding.weight
        if not isinstance(model.norm_adj_matrix, Adjacency):
            return super()._propagate()
        ego = model.get_ego_embeddings()
        mean = full_precision(mean_of_layers)(ego, model.norm_adj_matrix, model.n_layers)
        return mean.split([model.n_users, model.n_items])

    def _all_layers(self) -> EncodedLayers:
        model = self.model
        ego = model.get_ego_embeddings()
        if self._layer_grads is None:
            self._layer_grads = [torch.empty_like(ego) for _ in range(model.n_layers + 1)]
        grads = [grad.zero_() for grad in self._layer_grads]
        every = AllLayers(ego, model.norm_adj_matrix, grads)

        def tables(start: int, end: int) -> tuple[Table, ...]:
            return tuple(
                Table(layer[start:end], every.source, grad[start:end])
                for layer, grad in zip(every.layers, grads, strict=True)
            )

        return EncodedLayers(Layers(tables(0, model.n_users), tables(model.n_users, len(ego))))


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table, ``[*ids.shape, dim]``, whose gradient is added up in place."""
    return look_up([Table.of(table)], [ids.reshape(-1)]).view(*ids.shape, -1)
