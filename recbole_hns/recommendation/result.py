"""What a run returns, and a checkpoint gives back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_hns.config import given_keys
from recbole_hns.errors import UserError
from recbole_hns.recommendation.lists import Lists
from recbole_hns.recommendation.loading import Trained, read_checkpoint, restore
from recbole_hns.recommendation.tables import as_frame, item_ids, user_ids
from recbole_hns.results import read_run

if TYPE_CHECKING:
    import pandas as pd
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_hns.config import Config
    from recbole_hns.data.dataset import Dataset
    from recbole_hns.loss.base import Loss
    from recbole_hns.sampler.base import HardNegativeSampler


class RunResult(dict[str, Any]):
    """RecBole's result dictionary, with the trained model and what can be done with it.

    Its keys are ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and
    ``test_result``; the latter two are None where nothing was evaluated or tested. It travels to
    other processes as the dictionary and the path of the checkpoint, from which it reads the model
    and the data again when they are asked for.

    Attributes:
        checkpoint: path of the checkpoint; None if none was saved.
        result_file: path of the result file; None if there is none.
        epochs: the record of each epoch, as the result file has it.
        best_epoch: the number of epochs after which validation was best, or all where nothing
            selects; the model is of that epoch, but with ``saved=False`` of the last.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        checkpoint: Path | None,
        result_file: Path | None,
        epochs: Sequence[Mapping[str, Any]],
        best_epoch: int,
        trained: Trained | None,
        classes: Mapping[str, Any],
    ) -> None:
        super().__init__(values)
        self.checkpoint, self.result_file = checkpoint, result_file
        self.epochs, self.best_epoch = list(epochs), best_epoch
        self._given = dict(classes)
        if trained is not None:
            self._trained = trained

    def __reduce__(self) -> tuple[Any, ...]:
        paths = self.checkpoint, self.result_file
        return type(self), (
            dict(self), *paths, self.epochs, self.best_epoch, None, self._given
        )  # fmt: skip

    @cached_property
    def _trained(self) -> Trained:
        if self.checkpoint is None:
            raise UserError("model: the run kept no checkpoint (saved=False) to read it from")
        return restore(*read_checkpoint(self.checkpoint, self._given), self.checkpoint)

    @property
    def metrics(self) -> dict[str, float]:
        """The test result by RecBole's keys, such as ``ndcg@10``; empty if nothing was tested."""
        return self["test_result"] or {}

    @property
    def config(self) -> Config:
        """The config of the run."""
        return self._trained.config

    @property
    def model(self) -> AbstractRecommender:
        """The trained model, as it was tested."""
        return self._trained.model

    @property
    def dataset(self) -> Dataset:
        """All interactions, of every part."""
        return self._trained.dataset

    @cached_property
    def lists(self) -> Lists:
        """Lists of items by internal ids, a part of the users at a time."""
        return Lists(self._trained)

    def recommend(self, users: Any = None, k: int = 10, keep_known: bool = False) -> pd.DataFrame:
        """The items with the highest scores for each user.

        Args:
            users: one user or several, as the data set names them; default all.
            k: length of a list. A user to whom fewer items are left has a shorter one.
            keep_known: whether items that a user has interacted with, in whatever part of the data,
                may be in the list.

        Returns:
            Columns ``user``, ``item``, ``rank`` from 1, and ``score``; in the order of ``users``,
            the best item first.

        Raises:
            UserError: for a user that the data set does not have, or a ``k`` that is no number of
                items.
        """
        ids = user_ids(self.dataset, users, "users")
        return as_frame(self.lists.of_users(ids, k, keep_known), self.dataset, "user")

    def similar(self, items: Any, k: int = 10) -> pd.DataFrame:
        """The items whose vectors have the highest cosines with each of some items'.

        Args:
            items: one item or several, as the data set names them.
            k: length of a list.

        Returns:
            Columns ``related_to``, ``item``, ``rank`` and ``score``.

        Raises:
            UserError: for an item that the data set does not have, a ``k`` that is no number of
                items, or a model that has no vectors.
        """
        ids = item_ids(self.dataset, items, "items")
        return as_frame(self.lists.similar(ids, k), self.dataset, "related_to")


def load(
    path: str | os.PathLike[str],
    data_path: str | os.PathLike[str] | None = None,
    model: str | type | None = None,
    sampler: str | type[HardNegativeSampler] | None = None,
    loss: str | type[Loss] | None = None,
) -> RunResult:
    """Read a checkpoint as the result of the run that left it. No code is run from the file.

    Args:
        path: the checkpoint. Its result file is read where it lies beside it; what is none is
            left out, with a warning.
        data_path: the folder that the data set's folder lies in, if it was moved.
        model: the model's class, or ``package.module:Class``, if it is not RecBole's.
        sampler: the sampler's likewise, if it is not one of this package's.
        loss: the loss's likewise.

    Raises:
        UserError: if the file is no checkpoint of this package's, has a class of the user's own
            that is not given, or was trained on data that is not there.
    """
    moved = None if data_path is None else os.path.abspath(data_path)
    given = given_keys(data_path=moved, model=model, sampler=sampler, loss=loss)
    config, state = read_checkpoint(path, given)
    trained = restore(config, state, path)
    beside = Path(path).absolute().with_suffix(".json")
    result_file, test_result = None, None
    if beside.is_file():
        try:
            test_result = read_run(beside).test_result
            result_file = beside
        except UserError as error:
            # the checkpoint has all but the test result
            getLogger().warning(f"left out: {error}")
    values = {
        "best_valid_score": state["best_valid_score"],
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": state["best_valid_result"],
        "test_result": test_result,
    }
    last, best = state["last"], state["epoch"] + 1
    return RunResult(
        values, Path(path).absolute(), result_file, last["epochs"], best, trained, given
    )
