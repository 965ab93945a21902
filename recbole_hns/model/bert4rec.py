"""BERT4Rec, which learns from the masked positions of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from torch import Tensor

from recbole_hns.batch import Batch, Negatives
from recbole_hns.model.base import Losses, NegativeRows
from recbole_hns.model.sequential import SequentialAdapter


class BERT4RecAdapter(SequentialAdapter):
    """BERT4Rec: a row is a masked position, its positive what was there.

    Items have a bias, which a query multiplies by 1. As in RecBole, a mask at the first position is
    not learned from.
    """

    models: ClassVar[tuple[type, ...]] = (BERT4Rec,)

    def item_table(self) -> Tensor:
        """Item embeddings without the mask's, and after each its bias."""
        model = self.model
        table = model.item_embedding.weight[: model.n_items]
        return torch.cat([table, model.output_bias.unsqueeze(1)], dim=1)

    def batch(self, interaction: Interaction) -> Batch:
        """The masked positions, one sequence after the other."""
        model = self.model
        sequence, mask = self._masked(interaction)
        user = interaction[model.USER_ID][sequence]
        return self._batch(user, interaction[model.POS_ITEMS][sequence, mask], interaction)

    def own_items(self, batch: Batch) -> Tensor:
        """The items of each row's sequence, ``[B, L]``; 0 is none."""
        sequence, _ = self._masked(batch.sequences)
        return batch.sequences[self.model.ITEM_SEQ][sequence]

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Make the queries of all masked positions."""
        assert batch is not None
        model, sequences = self.model, batch.sequences
        sequence, mask = self._masked(sequences)
        output = model.forward(sequences[model.MASK_ITEM_SEQ])
        queries = output[sequence, sequences[model.MASK_INDEX][sequence, mask]]
        queries = torch.cat([queries, torch.ones_like(queries[:, :1])], dim=1)
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

    def _masked(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Sequence and number of each mask."""
        return interaction[self.model.MASK_INDEX].nonzero(as_tuple=True)
