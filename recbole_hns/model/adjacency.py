"""The normalised adjacency matrix of graph models, made from arrays.

RecBole's models put each entry into a dictionary, and that into a matrix: seven seconds for a
million interactions, and hundreds of bytes for each of them. What comes of it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.model.general_recommender import NCL, NGCF, LightGCN
from torch import Tensor

#: The classes that have a method of their own for it, all the same.
MODELS: tuple[Any, ...] = (LightGCN, NCL, NGCF)


@contextmanager
def made_from_arrays() -> Iterator[None]:
    """Within it, models that are made have their matrix made from arrays."""
    before = [model.get_norm_adj_mat for model in MODELS]
    for model in MODELS:
        model.get_norm_adj_mat = normalised_adjacency
    try:
        yield
    finally:
        for model, method in zip(MODELS, before, strict=True):
            model.get_norm_adj_mat = method


def normalised_adjacency(model: Any) -> Tensor:
    """D^-0.5 A D^-0.5 of a model's users and items, A being 1 for each pair of them that there is.

    Args:
        model: with ``interaction_matrix``, ``n_users`` and ``n_items``.

    Returns:
        COO, ``[n_users + n_items, n_users + n_items]``, float32, its entries in RecBole's order:
        sums over rows are the same to the last bit. NCL has the diagonal as an attribute, too.
    """
    pairs = model.interaction_matrix
    # each where it comes first, in the order of the interactions, as a dictionary keeps them
    key = pairs.row.astype(np.int64) * model.n_items + pairs.col
    first = np.sort(np.unique(key, return_index=True)[1])
    user, item = (ids[first].astype(np.int64) for ids in (pairs.row, pairs.col + model.n_users))
    row, column = np.concatenate([user, item]), np.concatenate([item, user])
    by_row = np.argsort(row, kind="stable")
    row, column = row[by_row], column[by_row]
    nodes = model.n_users + model.n_items
    # RecBole's way not to divide by zero
    diagonal = np.power(np.bincount(row, minlength=nodes) + 1e-7, -0.5)
    if isinstance(model, NCL):
        model.diag = torch.from_numpy(diagonal).to(model.device)
    values = torch.from_numpy(diagonal[row] * diagonal[column]).float()
    index = torch.from_numpy(np.stack([row, column]))
    return torch.sparse_coo_tensor(index, values, (nodes, nodes), check_invariants=False)
