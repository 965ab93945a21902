"""The base class of all losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from recbole_hns.batch import Batch, Negatives, Scores, weighted
from recbole_hns.component import Component
from recbole_hns.data import NegativePool
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


def check_list_length(key: str, k: int, model: GeneralRecommender) -> None:
    """See that a list of K recommendations leaves an item out.

    Raises:
        UserError: naming the hyperparameter, if it does not.
    """
    if k >= model.n_items:
        allowed = f"must be < {model.n_items}, the number of items with the padding"
        raise UserError.of(key, k, allowed)


class Loss(Component):
    """A loss of the positives of a batch and their negatives.

    A subclass declares its hyperparameters as annotated class attributes and defines
    :meth:`row_losses`, or :meth:`forward` where the rows of a user depend on each other.

    Attributes:
        sums_only: whether all it does with the negatives' scores is to hand them to
            :meth:`~recbole_hns.batch.Negatives.log_sum_exp`. The matrix is not made then where
            nothing else needs it. Default no.
        picks_itself: whether it picks its negatives among all items by their embeddings, in
            :meth:`of_items`, which takes the place of a sampler. Default no.
    """

    kind: ClassVar[str] = "loss"
    sums_only: ClassVar[bool] = False
    picks_itself: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if {"row_losses", "forward"} & vars(cls).keys() and "sums_only" not in vars(cls):
            cls.sums_only = False

    @property
    def pools_users(self) -> bool:
        """Whether a row's loss depends on the other rows of its user in the batch; default no.

        They are then kept together where a batch is learned from in parts.
        """
        return False

    def row_losses(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """Loss of each positive.

        Args:
            scores: of positives, ``[B, 1]``, and negatives, ``[B, M]``, with gradient.
            negatives: the negatives; ``negatives.mean`` weights the losses of each row. What is no
                negative, such as one of the user's own items, has weight 0 or, where there are no
                weights, a score of minus infinity.
            part: users and positives.

        Returns:
            ``[B]``.
        """
        raise NotImplementedError

    def of_items(
        self, query: Tensor, items: Tensor, batch: Batch, pool: NegativePool
    ) -> tuple[Tensor, Scores]:
        """The mean loss of a batch, where :attr:`picks_itself`.

        Args:
            query: what scores the items of each row, with gradient, ``[B, dim]``.
            items: what it is multiplied by, with gradient, ``[item_num, dim]``.
            batch: the whole batch.
            pool: knows what is no negative of a row.

        Returns:
            The loss, a scalar, and scores of positives, ``[P, 1]``, and mean scores of the
            negatives of each, ``[P]``, for the mean hardness, without gradient.
        """
        raise NotImplementedError

    def forward(self, scores: Scores, negatives: Negatives, part: Batch) -> Tensor:
        """The contribution of a part to the mean loss of the batch, a scalar.

        By default, the sum of :meth:`row_losses`, each times its row's scale, over ``part.size``. A
        row without negatives has no loss.

        Args:
            scores: as in :meth:`row_losses`.
            negatives: as there.
            part: as there; ``part.size`` is the number of rows of the whole batch.
        """
        losses = self.row_losses(scores, negatives, part)
        if negatives.weight is not None:
            losses = torch.where(negatives.counts() == 0, 0, losses)
        if negatives.scale is not None:
            losses = weighted(losses, negatives.scale)
        return losses.sum() / part.size
