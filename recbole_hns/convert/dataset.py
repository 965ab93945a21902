"""A data frame as a data set that a run reads like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hns.convert import COLUMN_OPTIONS
from recbole_hns.convert.atomic import FIELDS, atomic_text
from recbole_hns.convert.conversion import column_notes
from recbole_hns.convert.frames import frame_of, read_frames
from recbole_hns.convert.interactions import Interactions
from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory

#: RecBole's keys that name the columns of an atomic file.
FIELD_KEYS = {
    "user": "USER_ID_FIELD",
    "item": "ITEM_ID_FIELD",
    "rating": "RATING_FIELD",
    "timestamp": "TIME_FIELD",
}

#: Keys that say how files are read, and what they may be for those that are written here.
OF_FILES = {
    "benchmark_filename": (None,),
    "encoding": (None, "utf-8", "utf8"),
    "field_separator": (None, "\t"),
}


@dataclass
class FrameDataset:
    """The rows of a data frame.

    Attributes:
        name: the data set's, which its content tells.
        interactions: its rows, in their order.
        fields: names of the columns of its file, by what they have.
    """

    name: str
    interactions: Interactions
    fields: Mapping[str, str]

    @classmethod
    def of(
        cls, frame: Any, columns: Mapping[str, str | None], config: Mapping[str, Any]
    ) -> FrameDataset:
        """Read a data frame.

        Args:
            frame: as :func:`recbole_hns.convert.frames.is_frame` has it.
            columns: names of its columns, by the options of ``convert``; where one is None, what
                RecBole's key has, if there is such a column, else the usual names.
            config: for those keys; what it does not have is RecBole's default.

        Raises:
            UserError: if a column is not found, or a row cannot be read.
        """
        fields = {field: str(config.get(key) or FIELDS[field]) for field, key in FIELD_KEYS.items()}
        for key, value in config.items():
            if key in OF_FILES and value not in OF_FILES[key]:
                raise UserError.of(key, value, "is of files, and the data set is a data frame")
        try:
            # a stream can be read once
            frame = frame_of(frame)
        except TypeError as error:
            raise UserError.of("dataset", "the frame", f"cannot be read: {error}") from None
        names = {field: columns[option] for field, option in COLUMN_OPTIONS.items()}
        for field, name in fields.items():
            if names[field] is None and name in frame.names:
                names[field] = name
        interactions = read_frames({"dataset": frame}, names)
        return cls(f"frame-{_digest(interactions, fields)}", interactions, fields)

    def write(self, data_path: str) -> str:
        """Write the atomic file ``data_path/NAME/NAME.inter``, complete or not at all.

        Returns:
            What to say of it.

        Raises:
            UserError: if it cannot be written.
        """
        folder = writable_directory("data_path", str(Path(data_path) / self.name))
        path = folder / f"{self.name}.inter"
        rows = np.arange(len(self.interactions))
        text = atomic_text(self.interactions, rows, self.fields)
        replace_file(path, lambda file: file.writelines(text))
        notes = [f"the frame is now the data set {self.name}, in {path}"]
        return "; ".join(notes + column_notes(self.interactions))


def _digest(interactions: Interactions, fields: Mapping[str, str]) -> str:
    """What tells one atomic file from another."""
    digest = hashlib.sha256(repr([*fields.values(), *interactions.fields]).encode())
    for ids in (interactions.user_ids, interactions.item_ids):
        digest.update("\n".join(map(str, ids)).encode() + b"\n\n")
    for values in (interactions.user, interactions.item, *interactions.fields.values()):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:12]
