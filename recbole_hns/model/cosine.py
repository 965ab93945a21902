"""Evaluation by cosines, in place of the inner products that RecBole's models predict."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hns.model.base import ModelAdapter
from recbole_hns.model.embeddings import SMALLEST_NORM, EmbeddingAdapter
from recbole_hns.model.sequential import SequentialAdapter


def predict_by_cosine(adapter: ModelAdapter) -> None:
    """Have the model's ``predict`` and ``full_sort_predict`` return cosines from now on.

    Args:
        adapter: of a model with embeddings of users, or of a sequential model.
    """
    model = adapter.model
    if isinstance(adapter, SequentialAdapter):
        model.cosine_adapter = adapter
        model.predict = MethodType(sequence_predict, model)
        model.full_sort_predict = MethodType(sequence_full_sort_predict, model)
        return
    assert isinstance(adapter, EmbeddingAdapter)  # the config refuses other models
    model.cosine_tables = CosineTables(adapter)
    # bound methods, which a copy of the model binds to itself
    for method in (predict, full_sort_predict, train):
        setattr(model, method.__name__, MethodType(method, model))
    model.register_load_state_dict_post_hook(forget)


class CosineTables:
    """Both tables of a model, scaled to length 1, kept while the model is evaluated.

    Args:
        adapter: the model's.
    """

    def __init__(self, adapter: EmbeddingAdapter) -> None:
        self._adapter = adapter
        self._tables: tuple[Tensor, ...] = ()

    def forget(self) -> None:
        """Compute them anew when they are next asked for."""
        self._tables = ()

    def get(self) -> tuple[Tensor, ...]:
        """Users and items, ``[user_num, dim]`` and ``[item_num, dim]``."""
        if self._tables:
            return self._tables
        with torch.no_grad():
            tables = self._adapter.tables()
            found = tuple(F.normalize(table, dim=1, eps=SMALLEST_NORM) for table in tables)
        if not self._adapter.model.training:
            self._tables = found
        return found


def full_sort_predict(model: Any, interaction: Interaction) -> Tensor:
    """Cosines of users with all items, flattened, as RecBole's method of this name returns."""
    users, items = model.cosine_tables.get()
    return (users[interaction[model.USER_ID]] @ items.t()).view(-1)


def predict(model: Any, interaction: Interaction) -> Tensor:
    """Cosines of pairs of a user and an item, as RecBole's method of this name returns."""
    users, items = model.cosine_tables.get()
    return (users[interaction[model.USER_ID]] * items[interaction[model.ITEM_ID]]).sum(dim=1)


def sequence_full_sort_predict(model: Any, interaction: Interaction) -> Tensor:
    """Cosines of sequences with all items, ``[B, item_num]``, as RecBole's method returns."""
    queries, items = _sequence_vectors(model.cosine_adapter, interaction)
    return queries @ items.t()


def sequence_predict(model: Any, interaction: Interaction) -> Tensor:
    """Cosines of pairs of a sequence and an item, as RecBole's method of this name returns."""
    queries, items = _sequence_vectors(model.cosine_adapter, interaction)
    return (queries * items[interaction[model.ITEM_ID]]).sum(dim=1)


def _sequence_vectors(adapter: SequentialAdapter, interaction: Interaction) -> tuple[Tensor, ...]:
    vectors = adapter.queries(interaction), adapter.item_table()
    return tuple(F.normalize(each, dim=1, eps=SMALLEST_NORM) for each in vectors)


def train(model: Any, mode: bool = True) -> Any:
    """The model's ``train``, which ``eval`` calls too: what is kept ends there."""
    model.cosine_tables.forget()
    return type(model).train(model, mode)


def forget(model: Any, incompatible_keys: Any) -> None:
    """What is kept ends when parameters are loaded."""
    model.cosine_tables.forget()
