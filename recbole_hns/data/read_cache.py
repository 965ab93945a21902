"""Columns of a large data file as they were read, kept beside it for the next run.

The file is Arrow's stream format and a checksum, and holds no code. It lies beside the data, so
that it goes where they go, is removed with them, and serves all who use them; where that folder
cannot be written to, there is none.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from logging import getLogger
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recbole_hns.errors import UserError
from recbole_hns.files import replace_file

#: Smaller files, in bytes, are read in a second.
SMALLEST = 2**26

#: Seconds that file systems may take for one: a later change may leave the time as it is.
TICK = 2

#: Raised whenever the content of a cache changes.
VERSION = 1

#: Rows that are written and read at a time.
ROWS = 2**20

#: Bytes of the checksum at the end of a cache.
CHECKSUM = 4

#: What a cache that was not written here may raise.
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError)

Columns = dict[str, Any]


class ReadCache:
    """What was read of one data file.

    It counts only as long as the file is the same, by size and times.

    Args:
        path: the data file.
        separator: of its fields.
    """

    def __init__(self, path: str, separator: str) -> None:
        self._source, self._separator = path, separator
        self.path = f"{path}.cache"
        self._stamp, self._age = self._now()

    def _now(self) -> tuple[dict[str, Any], float]:
        """What the file is known by, and its age in seconds."""
        stat = os.stat(self._source)
        stamp = {
            "version": VERSION,
            "separator": self._separator,
            "size": stat.st_size,
            # of the content, and of the file itself, which no copy brings along
            "times": [stat.st_mtime_ns, stat.st_ctime_ns],
        }
        return stamp, time.time() - stat.st_mtime

    def load(self, types: Mapping[str, pa.DataType]) -> Columns | None:
        """Columns as :meth:`keep` was given them; None where they are not there, or are damaged.

        Args:
            types: of each column, that of strings for tokens in categories.
        """
        if self._stamp["size"] < SMALLEST:
            return None
        try:
            with open(self.path, "rb") as file:
                return self._read(file, types)
        except FileNotFoundError:
            return None
        except (*DAMAGED, pa.ArrowException) as error:
            getLogger().info(f"{self.path} is not used: {error}")
            return None

    def _read(self, file: IO[bytes], types: Mapping[str, pa.DataType]) -> Columns | None:
        size = os.fstat(file.fileno()).st_size - CHECKSUM
        check, left = 0, size
        while left > 0 and (part := file.read(min(left, 2**24))):
            check, left = zlib.crc32(part, check), left - len(part)
        if file.read() != check.to_bytes(CHECKSUM, "little"):
            raise ValueError("it is damaged")
        file.seek(0)
        with pa.ipc.open_stream(file) as reader:
            schema, known = reader.schema, json.loads(reader.schema.metadata[b"known"])
            rows = known.pop("rows")
            if known != self._stamp or not types.keys() <= set(schema.names):
                return None
            kinds = {name: schema.field(name).type for name in types}
            if any(
                types[name] != getattr(kind, "value_type", kind) for name, kind in kinds.items()
            ):
                return None
            found: Columns = {
                name: np.empty(rows, np.int32 if types[name] == pa.string() else np.float64)
                for name in types
            }
            tokens, start = {}, 0
            for batch in reader:
                batch.validate(full=True)
                for name, values in found.items():
                    column = batch.column(name)
                    if types[name] == pa.string():
                        tokens[name], column = column.dictionary, column.indices.fill_null(-1)
                    values[start : start + len(batch)] = column.to_numpy()
                start += len(batch)
        if start != rows:
            raise ValueError("it is damaged")
        for name, kind in types.items():
            if kind == pa.string():
                found[name] = categories(found[name], tokens[name])
        return found

    def keep(self, columns: Columns) -> None:
        """Write columns for the next run, if that can be done and is worth it.

        Args:
            columns: numbers, ``[rows]``, float64, or tokens in categories.
        """
        if self._stamp["size"] < SMALLEST or self._age < TICK:
            return
        try:
            # not if the file has changed meanwhile
            if self._now()[0] == self._stamp:
                replace_file(self.path, lambda file: self._write(file, columns))
                getLogger().info(f"Kept for the next run as it was read: {self.path}")
        except (UserError, OSError, pa.ArrowException) as error:
            getLogger().info(f"Not kept for the next run as it was read: {error}")

    def _write(self, file: IO[bytes], columns: Columns) -> None:
        arrays = {name: _arrow(values) for name, values in columns.items()}
        table = pa.table(arrays)
        known = json.dumps({**self._stamp, "rows": len(table)})
        table = table.replace_schema_metadata({"known": known})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        checked = _Checked(file)
        with pa.ipc.new_stream(checked, table.schema, options=options) as writer:
            writer.write_table(table, ROWS)
        file.write(checked.check.to_bytes(CHECKSUM, "little"))


class _Checked:
    """A file to write to, with a checksum of what was written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.check = file, 0

    def write(self, part: Any) -> int:
        self.check = zlib.crc32(part, self.check)
        return self._file.write(part)

    def flush(self) -> None:
        """Leave it to the file."""


def categories(codes: np.ndarray, tokens: pa.Array) -> pd.Categorical:
    """Tokens in categories by their codes, -1 where one is missing."""
    index = pd.Index(tokens.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Categorical.from_codes(codes, index)


def _arrow(values: pd.Categorical | np.ndarray) -> pa.Array:
    if isinstance(values, np.ndarray):
        return pa.array(values)
    codes = values.codes.astype(np.int32)
    tokens = pa.array(values.categories.to_numpy(), pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), tokens)
