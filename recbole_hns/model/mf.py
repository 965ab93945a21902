"""Matrix factorisation, RecBole's ``BPR``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from recbole.model.general_recommender import BPR
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows
from recbole_hns.model.embeddings import (
    EmbeddingAdapter,
    EncodedLayers,
    EncodedTables,
    LeafTables,
)

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


class MFAdapter(EmbeddingAdapter):
    """BPR: the tables are what is learned, and are one layer."""

    models: ClassVar[tuple[type, ...]] = (BPR,)
    has_layers: ClassVar[bool] = True

    @classmethod
    def knows(cls, model: type[GeneralRecommender]) -> bool:
        """Whether the model is BPR, or a subclass with its ``predict`` and ``forward``."""
        return super().knows(model) and model.forward is BPR.forward

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        super().__init__(model, config)
        self._leaves = LeafTables(*self.tables())

    @property
    def row_bytes(self) -> int:
        """Bytes of an item's embedding."""
        table = self.model.item_embedding.weight
        return table.shape[1] * table.element_size()

    def tables(self) -> tuple[Tensor, ...]:
        """What is learned."""
        return self.model.user_embedding.weight, self.model.item_embedding.weight

    def _predicted_tables(self) -> tuple[Tensor, ...]:
        return self.tables()

    def touched_rows(self) -> dict[Tensor, Tensor]:
        """Those of the batch and its negatives, where no others can have a gradient."""
        return self._leaves.touched_rows()

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """The two tables, without a copy."""
        if layers:
            for table in self.tables():
                self.before_read(table, None)
            yield self._leaves.as_layers()
        else:
            yield self._encoded(*self._leaves.cleared(), read=self.before_read)

    def total(
        self,
        encoded: EncodedTables | EncodedLayers,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """BPR's loss is the pairwise loss and nothing else; a subclass may have more."""
        if type(self.model).calculate_loss is not BPR.calculate_loss:
            return super().total(encoded, batch, loss, negatives, negative_rows)
        if isinstance(encoded, EncodedTables) and not encoded.dense and negatives is not None:
            self._leaves.touch(batch, negatives)
        return loss
