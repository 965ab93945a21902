"""What ``recbole-hns export`` wrote, ready to answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from recbole_hns.errors import UserError

#: Of the exports that this version reads and writes.
FORMAT = 1

Vectors = NDArray[np.float32]


class Recommender:
    """Ranks all items for a user by the inner product of their vectors.

    An answer takes one product of the item vectors with one vector, and several threads may ask at
    a time. What is only looked up stays on the disk, in pages that processes share.

    Args:
        users: name and row of each user.
        items: name of each item, in the order of its rows.
        user_vectors: ``[user_num, dim]``.
        item_vectors: ``[item_num, dim]``.
        known_offset: ``[user_num + 1]``, int64; the items that user ``u`` knows are
            ``known_item[known_offset[u]:known_offset[u + 1]]``.
        known_item: see there.
        fold_in: turns the sum of a user's n item vectors, over the root of n, to a user vector,
            ``[dim, dim]``.
    """

    def __init__(
        self,
        users: Mapping[str, int],
        items: list[str],
        user_vectors: Vectors,
        item_vectors: Vectors,
        known_offset: NDArray[np.int64],
        known_item: NDArray[np.integer],
        fold_in: Vectors,
    ) -> None:
        self._users, self._names = users, items
        self._items = {name: row for row, name in enumerate(items)}
        self._user_vectors, self._item_vectors = user_vectors, item_vectors
        self._known_offset, self._known_item = known_offset, known_item
        self._fold_in = fold_in

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Recommender:
        """Read an export.

        Raises:
            UserError: if the directory holds none that this version reads.
        """
        folder = Path(directory)
        try:
            facts = json.loads((folder / "export.json").read_bytes())
            if not isinstance(facts, dict) or facts.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            users, items = _names(folder / "users.parquet"), _names(folder / "items.parquet")
            arrays = [_array(folder, name) for name in ARRAYS]
            _check(len(users), len(items), *arrays)
            user_vectors, item_vectors, *others = arrays
            rows = {name: row for row, name in enumerate(users)}
            # read for every answer, so not from the disk
            return cls(rows, items, user_vectors, np.array(item_vectors), *others)
        except Exception as error:  # what readers of arbitrary bytes raise varies
            reason = getattr(error, "strerror", None) or str(error)
            allowed = f"must be a directory that recbole-hns export wrote ({reason})"
            raise UserError.of("directory", directory, allowed) from None

    def __contains__(self, user: Any) -> bool:
        """Whether the model knows a user."""
        return str(user) in self._users

    def recommend(
        self, user: Any, k: int = 10, keep_known: bool = False
    ) -> list[tuple[str, float]]:
        """The ``k`` items with the highest scores for a user, with their scores, the best first.

        Args:
            user: as the data set names it.
            k: length of the list; shorter where fewer items are left.
            keep_known: whether items that the user has interacted with may be in it.

        Raises:
            UserError: for a user that the model does not know; :meth:`recommend_from` may help.
        """
        row = self._users.get(str(user))
        if row is None:
            allowed = "is not known to the model; recommend_from(items) takes what they know"
            raise UserError.of("user", user, allowed)
        start, end = self._known_offset[row : row + 2]
        known = self._known_item[:0] if keep_known else self._known_item[start:end]
        return self._best(self._user_vectors[row], known, k)

    def recommend_from(self, items: Any, k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` best items for a user who was unknown at training, by the items they know.

        The user's vector is what a ridge regression makes of their items' vectors, which was
        fitted, at the export, to give the vectors of the users who were known.

        Args:
            items: one or several, as the data set names them; those that the model does not know
                are left out, and none of the others is in the list.
            k: length of the list.

        Raises:
            UserError: if the model knows none of the items.
        """
        single = isinstance(items, str) or not isinstance(items, Iterable)
        names = [str(item) for item in ([items] if single else items)]
        known = sorted({self._items[name] for name in names if name in self._items})
        if not known:
            raise UserError.of("items", ",".join(names[:3]), "the model knows none")
        total = self._item_vectors[known].sum(axis=0) / np.float32(len(known) ** 0.5)
        return self._best(total @ self._fold_in, np.array(known), k)

    def similar(self, item: Any, k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` items whose vectors have the highest cosines with an item's.

        Raises:
            UserError: for an item that the model does not know.
        """
        row = self._items.get(str(item))
        if row is None:
            raise UserError.of("item", item, "is not known to the model")
        norms = np.maximum(np.linalg.norm(self._item_vectors, axis=1), SMALLEST_NORM)
        vector = self._item_vectors[row] / norms[row]
        return self._ranked((self._item_vectors @ vector) / norms, np.array([row]), k)

    def _best(self, vector: Vectors, known: NDArray[np.integer], k: int) -> list[tuple[str, float]]:
        return self._ranked(self._item_vectors @ vector, known, k)

    def _ranked(
        self, scores: Vectors, known: NDArray[np.integer], k: int
    ) -> list[tuple[str, float]]:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UserError.of("k", k, "must be an integer >= 1")
        scores[known] = -np.inf
        place = max(len(scores) - k, 0)
        # with all that equal the last of them: of these the ones that the data set has first
        best = np.flatnonzero(scores >= np.partition(scores, place)[place])
        best = best[np.argsort(-scores[best], kind="stable")[:k]]
        found = zip(best.tolist(), scores[best].tolist(), strict=True)
        return [(self._names[item], score) for item, score in found if score > -np.inf]


#: The arrays of an export, each a file ``NAME.npy``, as :class:`Recommender` takes them.
ARRAYS = ("user_vectors", "item_vectors", "known_offset", "known_item", "fold_in")

#: Shorter vectors have cosines as if they were this long.
SMALLEST_NORM = 1e-6


def _names(path: Path) -> list[str]:
    return pyarrow.parquet.read_table(path).column(0).to_pylist()


def _array(folder: Path, name: str) -> NDArray[Any]:
    # a pickle in the file would run code
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def _check(
    users: int,
    items: int,
    user_vectors: NDArray[Any],
    item_vectors: NDArray[Any],
    known_offset: NDArray[Any],
    known_item: NDArray[Any],
    fold_in: NDArray[Any],
) -> None:
    """See that the arrays are of one model.

    Raises:
        ValueError: if not.
    """
    dim = item_vectors.shape[-1]
    shapes = [user_vectors.shape, item_vectors.shape, known_offset.shape, fold_in.shape]
    if shapes != [(users, dim), (items, dim), (users + 1,), (dim, dim)]:
        raise ValueError("its arrays do not fit its users and items")
    if any(numbers.dtype.kind not in "iu" for numbers in (known_offset, known_item)):
        raise ValueError("its known items are no whole numbers")
    whole = known_offset[:1].tolist() == [0] and known_offset[-1:].tolist() == [len(known_item)]
    if not whole or (len(known_item) and not 0 <= known_item.min() <= known_item.max() < items):
        raise ValueError("its known items are not those of its users")
