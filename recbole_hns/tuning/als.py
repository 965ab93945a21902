"""``implicit``'s ALS as a model that RecBole's evaluation can score with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from implicit.als import AlternatingLeastSquares
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction


#: Those of implicit that a config has.
HYPERPARAMETERS = ("factors", "alpha", "regularization", "iterations")


class ALS(GeneralRecommender):
    """Matrix factorisation by alternating least squares, fitted when it is made.

    As RecBole's EASE, it has no epochs.

    Args:
        config: the config, with :data:`HYPERPARAMETERS`.
        dataset: the training part.
    """

    input_type: ClassVar[InputType] = InputType.POINTWISE
    type: ClassVar[ModelType] = ModelType.TRADITIONAL

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        # RecBole's trainer makes an optimizer, which needs a parameter
        self.unused = nn.Parameter(torch.zeros(1))
        als = AlternatingLeastSquares(
            **{key: config[key] for key in HYPERPARAMETERS},
            use_gpu=False,
            num_threads=1,
            random_state=config["seed"],
        )
        als.fit(dataset.inter_matrix(form="csr"), show_progress=False)
        self.user, self.item = map(torch.from_numpy, (als.user_factors, als.item_factors))

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the users of a batch, ``[users, items]``."""
        return self.user[interaction[self.USER_ID]] @ self.item.T

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of pairs, ``[pairs]``."""
        return (self.user[interaction[self.USER_ID]] * self.item[interaction[self.ITEM_ID]]).sum(1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Nothing is left to learn from a batch."""
        return self.unused.sum()
