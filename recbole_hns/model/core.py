"""CORE, which scores by cosines over a temperature, with dropout on the items' side too."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import CORE
from torch import Tensor

from recbole_hns.model.sequential import QueriesAdapter


class COREAdapter(QueriesAdapter):
    """CORE: RecBole trains it with cross-entropy only."""

    models: ClassVar[tuple[type, ...]] = (CORE,)
    cosines: ClassVar[bool] = False  # it has them already

    def item_table(self) -> Tensor:
        """Item embeddings after their dropout, of length 1."""
        return F.normalize(self.model.item_dropout(self.model.item_embedding.weight), dim=-1)

    def queries(self, interaction: Interaction) -> Tensor:
        """What ``forward`` returns, which the temperature divides, ``[B, dim]``."""
        return self.model.forward(interaction[self.model.ITEM_SEQ]) / self.model.temperature
