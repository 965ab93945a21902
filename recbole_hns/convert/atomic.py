"""RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import PARTS
from recbole_hns.convert.interactions import Interactions

#: Interactions that are turned into text at once.
CHUNK = 2**18


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
    fields = [f"{field}:float" for field in interactions.fields]
    user_ids, item_ids = _ids(interactions.user_ids), _ids(interactions.item_ids)
    paths = []
    for place, part_name in enumerate(PARTS):
        rows = np.flatnonzero(part == place)
        if not len(rows):
            continue
        path = folder / f"{name}.{part_name}.inter"
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write("\t".join(["user_id:token", "item_id:token", *fields]) + "\n")
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                columns = [
                    user_ids[interactions.user[chunk]],
                    item_ids[interactions.item[chunk]],
                    *(values[chunk] for values in interactions.fields.values()),
                ]
                # quotes are read as part of an id, and no id has a tab
                for row in zip(*(map(str, column.tolist()) for column in columns), strict=True):
                    file.write("\t".join(row) + "\n")
        paths.append(path)
    return paths


def _ids(ids: Sequence[str | int]) -> NDArray:
    # strings are referred to, not copied
    return np.array(ids, dtype=object if isinstance(ids, list) else None)
