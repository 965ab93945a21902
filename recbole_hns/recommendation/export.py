"""A model as files that serve it without RecBole, PyTorch, Ray or the data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from recbole_hns.errors import UserError
from recbole_hns.files import new_directory
from recbole_hns.recommendation.card import model_card
from recbole_hns.recommendation.result import RunResult, load
from recbole_hns.recommendation.tables import names_of
from recbole_hns.results import as_json, versions
from recbole_hns.serving.recommender import ARRAYS, FORMAT

#: Ridge of the fold-in, as a part of the mean eigenvalue of what it is added to. More is better
#: for users of a few items, less for those of many.
RIDGE = 0.1

#: Of the fold-in's fit.
USERS_AT_ONCE = 4096

#: Of the HNSW index: neighbours of an item, and how many are looked at to build and to search it.
NEIGHBOURS, BUILD, SEARCH = 32, 200, 256


def export(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    index: bool = False,
    **load_with: Any,
) -> str:
    """Write what serves a model: vectors, names, what each user knows, and a model card.

    The files of the directory are ``user_vectors.npy`` and ``item_vectors.npy``, whose inner
    products are the scores, ``users.parquet`` and ``items.parquet``, the names in the order of
    their rows, ``known_offset.npy`` and ``known_item.npy``, the rows of the items that each user
    has interacted with, ``fold_in.npy``, ``export.json``, ``README.md``, the card, and, if asked
    for, ``items.faiss``.

    Args:
        checkpoint: of the model.
        output: the directory; new or empty.
        index: whether to add an HNSW index of the items, for faiss.
        **load_with: ``data_path``, ``model``, ``sampler`` and ``loss``, as of
            :func:`recbole_hns.load`.

    Returns:
        What was written, in a line.

    Raises:
        UserError: for a value that is not allowed, or a model that has no vectors; nothing is
            written then.
    """
    faiss = _faiss() if index else None
    with new_directory("output", os.fspath(output)) as folder:
        result = load(checkpoint, **load_with)
        if result.lists.vectors is None:
            allowed = (
                "has no vectors of users and items to export; recbole-hns recommend writes its "
                "lists"
            )
            raise UserError.of("model", result.config["model"], allowed)
        arrays = _arrays(result)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", arrays[name])
        _write_names(folder, result)
        users, items = (arrays[f"{side}_vectors"] for side in ("user", "item"))
        facts = {
            "format": FORMAT,
            "model": result.config["model"],
            "dataset": result.config["dataset"],
            "similarity": result.config["eval_similarity"],
            "users": len(users),
            "items": len(items),
            "dim": items.shape[1],
            "versions": versions(),
        }
        (folder / "export.json").write_text(json.dumps(as_json(facts), indent=1) + "\n")
        if faiss is not None:
            _write_index(faiss, items, folder / "items.faiss")
        (folder / "README.md").write_text(model_card(result, index), encoding="utf-8")
    return f"{len(users)} users, {len(items)} items, {items.shape[1]} dimensions: {output}"


def _arrays(result: RunResult) -> dict[str, NDArray[Any]]:
    """The arrays of :data:`ARRAYS`, without RecBole's padding row."""
    lists = result.lists
    assert lists.vectors is not None
    users, items = (
        np.ascontiguousarray(table[1:].float().cpu().numpy()) for table in lists.vectors
    )
    offset = lists.known.offset[1:]
    known = (lists.known.item - 1).astype(np.int32)
    return {
        "user_vectors": users,
        "item_vectors": items,
        "known_offset": offset,
        "known_item": known,
        "fold_in": fold_in(users, items, offset, known),
    }


def fold_in(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    offset: NDArray[np.int64],
    known: NDArray[np.integer],
) -> NDArray[np.float32]:
    """The matrix that turns a user's item vectors to the user's vector, by ridge regression.

    With x_u the sum of the vectors of the n_u items that user u knows, over the root of n_u, and
    p_u the user's vector, it is the W that minimises sum_u |x_u W - p_u|^2 + r |W|^2, r being
    :data:`RIDGE` times the mean of the eigenvalues of sum_u x_u^T x_u.

    Args:
        users: ``[user_num, dim]``.
        items: ``[item_num, dim]``.
        offset: ``[user_num + 1]``; user u knows ``known[offset[u]:offset[u + 1]]``.
        known: see there.

    Returns:
        ``[dim, dim]``.
    """
    dim = items.shape[1]
    squares, products = np.zeros((dim, dim)), np.zeros((dim, dim))
    # some users at a time, as every interaction takes a row
    count = np.diff(offset)
    for first in range(0, len(users), USERS_AT_ONCE):
        some = slice(first, first + USERS_AT_ONCE)
        active = np.flatnonzero(count[some]) + first
        if not len(active):
            continue
        rows = items[known[offset[first] : offset[active[-1] + 1]]].astype(np.float64)
        total = np.add.reduceat(rows, offset[active] - offset[first])
        total /= np.sqrt(count[active, None])
        squares += total.T @ total
        products += total.T @ users[active]
    ridge = RIDGE * np.trace(squares) / dim
    # a model whose vectors are all 0 has no other answer
    return np.linalg.solve(squares + max(ridge, 1e-30) * np.eye(dim), products).astype(np.float32)


def _write_names(folder: Path, result: RunResult) -> None:
    dataset = result.dataset
    for name, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        table = pa.table({name: names_of(dataset, field).slice(1)})
        pyarrow.parquet.write_table(table, folder / f"{name}s.parquet")


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        allowed = "needs faiss: pip install recbole-hns[index]"
        raise UserError.of("index", True, allowed) from None
    return faiss


def _write_index(faiss: Any, items: NDArray[np.float32], path: Path) -> None:
    """An HNSW index of the items by inner product, whose numbers are the rows of the items."""
    index = faiss.IndexHNSWFlat(items.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = BUILD, SEARCH
    index.add(items)
    faiss.write_index(index, str(path))
