"""FPMC, whose score is the sum of two inner products, and so one of longer rows."""

from __future__ import annotations

from typing import ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import FPMC
from torch import Tensor

from recbole_hns.model.sequential import QueriesAdapter


class FPMCAdapter(QueriesAdapter):
    """FPMC: a query is its user's embedding, and after it that of the last item."""

    models: ClassVar[tuple[type, ...]] = (FPMC,)

    def item_table(self) -> Tensor:
        """An item's embeddings for users, and after them those for last items."""
        return torch.cat([self.model.IU_emb.weight, self.model.IL_emb.weight], dim=1)

    def queries(self, interaction: Interaction) -> Tensor:
        """Embeddings of users, and after each that of the last item, ``[B, dim]``."""
        model = self.model
        last = interaction[model.ITEM_SEQ_LEN].unsqueeze(1) - 1
        item = interaction[model.ITEM_SEQ].gather(1, last).squeeze(1)
        return torch.cat([model.UI_emb(interaction[model.USER_ID]), model.LI_emb(item)], dim=1)
