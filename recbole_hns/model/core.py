"""CORE, which scores by cosines over a temperature, with dropout on the items' side too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import CORE
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows
from recbole_hns.model.sequential import SequentialAdapter


class COREAdapter(SequentialAdapter):
    """CORE: RecBole trains it with cross-entropy only."""

    models: ClassVar[tuple[type, ...]] = (CORE,)
    causal: ClassVar[tuple[type, ...]] = ()
    cosines: ClassVar[bool] = False  # it has them already

    def item_table(self) -> Tensor:
        """Item embeddings after their dropout, of length 1."""
        return F.normalize(self.model.item_dropout(self.model.item_embedding.weight), dim=-1)

    def queries(self, interaction: Interaction) -> Tensor:
        """What ``forward`` returns, which the temperature divides, ``[B, dim]``."""
        return self.model.forward(interaction[self.model.ITEM_SEQ]) / self.model.temperature

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Make the queries of a batch."""
        assert batch is not None
        yield self._encoded(self.queries(batch.sequences), self.item_table())

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
