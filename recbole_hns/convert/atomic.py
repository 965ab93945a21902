"""RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import PARTS
from recbole_hns.convert.interactions import Interactions

#: Interactions that are turned into text at once.
CHUNK = 2**18

#: RecBole's names of the columns, by default.
FIELDS = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}


def write_parts(
    interactions: Interactions, part: NDArray[np.int8], folder: Path, name: str
) -> list[Path]:
    """Write ``NAME.PART.inter`` for every part that has interactions.

    Args:
        interactions: in the order in which they are written.
        part: ``[n]``, the index of each one's part in :data:`PARTS`.
        folder: where to.
        name: of the data set.

    Returns:
        The files.
    """
    paths = []
    for place, part_name in enumerate(PARTS):
        rows = np.flatnonzero(part == place)
        if not len(rows):
            continue
        path = folder / f"{name}.{part_name}.inter"
        with open(path, "wb") as file:
            file.writelines(atomic_text(interactions, rows))
        paths.append(path)
    return paths


def atomic_text(
    interactions: Interactions, rows: NDArray[np.int64], fields: Mapping[str, str] = FIELDS
) -> Iterator[bytes]:
    """The text of an atomic file, a chunk at a time.

    Args:
        interactions: of which there are ``n``.
        rows: those to write, indices into ``[n]``, in their order.
        fields: names of the columns, by what they have.
    """
    header = [f"{fields['user']}:token", f"{fields['item']}:token"]
    header += [f"{fields[name]}:float" for name in interactions.fields]
    yield ("\t".join(header) + "\n").encode()
    user_ids, item_ids = _ids(interactions.user_ids), _ids(interactions.item_ids)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        columns = [
            user_ids[interactions.user[chunk]],
            item_ids[interactions.item[chunk]],
            *(values[chunk] for values in interactions.fields.values()),
        ]
        # quotes are read as part of an id, and no id has a tab
        lines = map("\t".join, zip(*(map(str, column.tolist()) for column in columns), strict=True))
        yield ("\n".join(lines) + "\n").encode()


def _ids(ids: Sequence[str | int]) -> NDArray:
    # strings are referred to, not copied
    return np.array(ids, dtype=object if isinstance(ids, list) else None)
