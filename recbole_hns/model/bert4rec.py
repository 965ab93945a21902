"""BERT4Rec, which learns from the masked positions of a sequence."""

from __future__ import annotations

from typing import ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from torch import Tensor

from recbole_hns.batch import Batch
from recbole_hns.model.sequential import QueriesAdapter


class BERT4RecAdapter(QueriesAdapter):
    """BERT4Rec: a row is a masked position, its positive what was there.

    Items have a bias, which a query multiplies by 1. As in RecBole, a mask at the first position is
    not learned from.
    """

    models: ClassVar[tuple[type, ...]] = (BERT4Rec,)
    cosines: ClassVar[bool] = False  # its items have a bias

    def item_table(self) -> Tensor:
        """Item embeddings without the mask's, and after each its bias."""
        model = self.model
        table = model.item_embedding.weight[: model.n_items]
        return torch.cat([table, model.output_bias.unsqueeze(1)], dim=1)

    def targets(self, interaction: Interaction) -> tuple[tuple[Tensor, ...], Tensor]:
        """The masked positions, one sequence after the other."""
        model = self.model
        masked = interaction[model.MASK_INDEX]
        sequence, mask = masked.nonzero(as_tuple=True)
        pos_item = interaction[model.POS_ITEMS][sequence, mask]
        return (sequence, masked[sequence, mask]), pos_item

    def queries(self, interaction: Interaction) -> Tensor:
        """Those of a mask after each sequence, ``[B, dim]``."""
        model, length = self.model, interaction[self.model.ITEM_SEQ_LEN]
        sequence = model.reconstruct_test_data(interaction[model.ITEM_SEQ], length)
        return _with_one(model.gather_indexes(model.forward(sequence), length - 1))

    def batch_queries(self, batch: Batch) -> Tensor:
        """Those of all masked positions."""
        index, _ = self.targets(batch.sequences)
        return _with_one(self.model.forward(batch.sequences[self.model.MASK_ITEM_SEQ])[index])


def _with_one(queries: Tensor) -> Tensor:
    """Queries, and after each the 1 that multiplies the items' bias."""
    return torch.cat([queries, torch.ones_like(queries[:, :1])], dim=1)
