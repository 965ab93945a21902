"""FPMC, whose score is the sum of two inner products, and so one of longer rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import FPMC
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows
from recbole_hns.model.sequential import SequentialAdapter


class FPMCAdapter(SequentialAdapter):
    """FPMC: a query is its user's embedding, and after it that of the last item."""

    models: ClassVar[tuple[type, ...]] = (FPMC,)
    causal: ClassVar[tuple[type, ...]] = ()

    def item_table(self) -> Tensor:
        """An item's embeddings for users, and after them those for last items."""
        return torch.cat([self.model.IU_emb.weight, self.model.IL_emb.weight], dim=1)

    def queries(self, interaction: Interaction) -> Tensor:
        """Embeddings of users, and after each that of the last item, ``[B, dim]``."""
        model = self.model
        last = interaction[model.ITEM_SEQ_LEN].unsqueeze(1) - 1
        item = interaction[model.ITEM_SEQ].gather(1, last).squeeze(1)
        return torch.cat([model.UI_emb(interaction[model.USER_ID]), model.LI_emb(item)], dim=1)

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Look the queries up."""
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
