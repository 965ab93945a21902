"""CORE, which scores by cosines over a temperature, with dropout on the items' side too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch.nn.functional as F
from recbole.model.sequential_recommender import CORE
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows
from recbole_hns.model.sequential import SequentialAdapter


class COREAdapter(SequentialAdapter):
    """CORE: RecBole trains it with cross-entropy only."""

    models: ClassVar[tuple[type, ...]] = (CORE,)
    causal: ClassVar[tuple[type, ...]] = ()

    def item_table(self) -> Tensor:
        """Item embeddings after their dropout, of length 1."""
        return F.normalize(self.model.item_dropout(self.model.item_embedding.weight), dim=-1)

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Make the queries of a batch, which the temperature divides."""
        assert batch is not None
        model = self.model
        queries = model.forward(batch.sequences[model.ITEM_SEQ]) / model.temperature
        yield self._encoded(queries, self.item_table())

    def total(
        self,
        encoded: Any,
        batch: Batch,
        loss: Tensor,
        negatives: Negatives | None = None,
        negative_rows: NegativeRows | None = None,
    ) -> Losses:
        """The loss, as there are no further terms."""
        return loss
