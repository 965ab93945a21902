"""What samplers and losses have in common: declared hyperparameters, state, and two hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbole_hns.parameters import Declared

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.batch import Encoded
    from recbole_hns.data import NegativePool


class Component(Declared, nn.Module):
    """A part of the training step that a user chooses by a config key.

    Hyperparameters are annotated class attributes. As the class is a ``torch.nn.Module``, buffers
    and parameters move to the model's device and go into the checkpoint.

    Attributes:
        epoch: the epoch under way, counted from 0.
    """

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.epoch = 0

    if TYPE_CHECKING:
        # buffers and parameters, whose names a subclass chooses
        def __getattr__(self, name: str) -> Any: ...

    @property
    def own_learning_rate(self) -> float | None:
        """That of its parameters, which then have no weight decay; ``lr_decay`` applies to it.

        None is the model's learning rate, with its weight decay.
        """
        return None

    def setup(self, model: GeneralRecommender, epochs: int) -> None:
        """Called once, before the optimizer is made and before a checkpoint is loaded.

        The place to register buffers and parameters, which are saved, resumed and, the latter,
        trained with the model's.

        Args:
            model: the RecBole model; ``n_users`` and ``n_items`` are its sizes.
            epochs: the number of epochs that the run may have.
        """

    def start_epoch(self, epoch: int, encoded: Encoded, pool: NegativePool) -> None:
        """Called before the first batch of each epoch, without gradient.

        The place to renew what is kept between epochs.

        Args:
            epoch: counted from 0.
            encoded: all users and items, as the model encodes them now.
            pool: what candidates are drawn from; also knows each user's items.
        """

    def check_state(self, model: GeneralRecommender) -> None:
        """Called after the state was loaded from a checkpoint, which may hold anything.

        The place to see that it can be used with this model: compiled loops do not check the item
        ids and the shapes that they are given.

        Args:
            model: the RecBole model.

        Raises:
            ValueError: if it cannot.
        """


def check_item_ids(ids: Tensor, shape: tuple[int, ...], model: GeneralRecommender) -> None:
    """See that a tensor from a checkpoint holds item ids.

    Raises:
        ValueError: if it has another shape or type, or an id that the model does not have.
    """
    if ids.shape != shape or ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"item ids of shape {list(ids.shape)} in place of {list(shape)}")
    if ids.numel() and not (ids.min() >= 0 and ids.max() < model.n_items):
        raise ValueError(f"item ids beyond the {model.n_items} of the data")
