"""RecBole's data files, every line of them a row and every field as it stands there."""

from __future__ import annotations

import builtins
import codecs
import csv
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import recbole.data.dataset.dataset as recbole_dataset
from pyarrow import csv as arrow_csv

from recbole_hns.compat import as_recbole_reads
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole.config import Config

#: What is no number in a column of numbers but a missing one. In a column of tokens it is a token.
MISSING_NUMBER = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "-NaN", "-nan", "NULL", "NaN", "None", "n/a", "nan", "null"),
]


def opened(path: str | os.PathLike[str], config: Config) -> IO[str]:
    """A data file, opened by the config's ``encoding``, a byte order mark being skipped.

    Raises:
        UserError: if there is no such encoding.
    """
    name = config["encoding"] or "utf-8"
    try:
        name = "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name
        return builtins.open(path, encoding=name)
    except (LookupError, TypeError):
        raise UserError.of("encoding", name, "Python has no such encoding") from None


@contextmanager
def reading(config: Config) -> Iterator[None]:
    """Have RecBole read its files as :func:`read_table` does.

    That is by faster parsers than the one RecBole names. Tokens may be in categories.
    """
    parts = config["benchmark_filename"] or []
    read: dict[str, pd.DataFrame] = {}

    def read_csv(
        path: str, *, usecols: list[str], dtype: dict[str, type], **_: Any
    ) -> pd.DataFrame:
        table = read.get(path)
        if table is None:
            table = read_table(path, config, usecols, dtype)
        if len(set(parts)) < len(parts):
            read[path] = table  # a test part that validates, too
        return table.copy(deep=False)

    pandas = SimpleNamespace(**{**vars(pd), "read_csv": read_csv, "concat": concatenated})
    with (
        mock.patch.object(recbole_dataset, "pd", pandas),
        mock.patch.object(
            recbole_dataset,
            "open",
            # RecBole opens a data file for its first line, and files of its own
            lambda path, *mode, **how: (
                opened(path, config) if "encoding" in how else builtins.open(path, *mode)
            ),
            create=True,
        ),
    ):
        yield


def read_table(
    path: str, config: Config, columns: list[str], types: dict[str, type]
) -> pd.DataFrame:
    """Some columns of a data file.

    Args:
        path: of a file whose first line holds ``name:type`` of each column.
        config: for ``field_separator`` and ``encoding``.
        columns: those to read, as the first line has them.
        types: of each, ``str`` or ``np.float64``.

    Raises:
        UserError: naming the first line that has another number of fields than the first of all.
    """
    separator = config["field_separator"]
    table = _read_plain(path, config, columns, types)
    if table is not None:
        return as_recbole_reads(table)
    rows = _count_rows(path, config)
    missing = {
        column: MISSING_NUMBER
        if types[column] is not str or column.endswith(":float_seq")
        else [""]
        for column in columns
    }
    fast: dict[str, Any] = {"engine": "c", "float_precision": "round_trip"}
    with opened(path, config) as file:
        table = pd.read_csv(
            file,
            # a longer one is a regular expression, for the other parser only
            sep=separator if len(separator) == 1 else re.escape(separator),
            usecols=columns,
            dtype=types,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=missing,
            **(fast if len(separator) == 1 else {"engine": "python"}),
        )
    if len(table) != rows:
        reason = f"{path}: {len(table)} rows were read from its {rows} lines after the first"
        raise UserError.of("dataset", config["dataset"], reason)
    return as_recbole_reads(table)


def _read_plain(
    path: str, config: Config, columns: list[str], types: dict[str, type]
) -> pd.DataFrame | None:
    """What :func:`read_table` gives of interactions in a plain file, tokens as categories.

    Categories are in the order in which they are first met. None where the file or the config has
    something that Arrow might read in another way, or that is a mistake to be named.
    """
    separator, encoding = config["field_separator"], config["encoding"] or "utf-8"
    if not path.endswith(".inter") or any(column.endswith("_seq") for column in columns):
        return None
    if len(separator) != 1 or not separator.isascii() or separator in "\r\n":
        return None
    if not isinstance(encoding, str) or encoding.lower() not in ("utf-8", "utf8", "ascii"):
        return None
    with opened(path, config) as file:
        # a field that is alone in its line cannot be told from a blank line
        if separator not in file.readline():
            return None
    kinds = {column: pa.string() if types[column] is str else pa.float64() for column in columns}
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(use_threads=False, block_size=2**24),
            arrow_csv.ParseOptions(delimiter=separator, quote_char=False, escape_char=False),
            arrow_csv.ConvertOptions(
                include_columns=columns,
                column_types=kinds,
                null_values=MISSING_NUMBER,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, OverflowError):
        return None
    found: dict[str, Any] = {}
    for column in columns:
        values = table.column(column)
        table = table.drop_columns([column])  # one after the other leaves memory
        found[column] = _categories(values) if types[column] is str else _numbers(values)
        if found[column] is None:
            return None
    del values
    pa.default_memory_pool().release_unused()
    return pd.DataFrame(found, copy=False)


def _categories(values: pa.ChunkedArray) -> pd.Categorical | None:
    """Tokens as categories, an empty one being missing; None where C's strings would end early."""
    encoded = values.dictionary_encode().combine_chunks()
    tokens = encoded.dictionary
    if pc.any(pc.match_substring(tokens, "\0")).as_py():
        return None
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    empty = pc.index(tokens, "").as_py()
    if empty >= 0:
        codes = np.where(codes == empty, -1, codes - (codes > empty))
        tokens = pa.concat_arrays([tokens[:empty], tokens[empty + 1 :]])
    index = pd.Index(tokens.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Categorical.from_codes(codes, index)


def _numbers(values: pa.ChunkedArray) -> np.ndarray | None:
    """Numbers, NaN where one is missing; None where one may be too large, which pandas refuses."""
    numbers = values.to_numpy()
    return None if np.isinf(numbers).any() else numbers


def concatenated(frames: list[pd.DataFrame], **how: Any) -> pd.DataFrame:
    """Join tables as pandas' ``concat``, but columns in categories everywhere stay so."""
    found = {}
    for column in frames[0]:
        columns = [frame[column] for frame in frames if column in frame]
        if len(columns) == len(frames) and all(map(in_categories, columns)):
            found[column] = union([column.array for column in columns])
    others = [frame.drop(columns=list(found)) for frame in frames]
    table = pd.concat(others, **how)
    # the columns' order is that of the first file that has them
    order = list(dict.fromkeys(column for frame in frames for column in frame))
    return table.assign(**found)[order] if found else table


def union(columns: list[pd.Categorical]) -> pd.Categorical:
    """Columns in categories, one after the other, the categories as they are first met."""
    joined = pd.api.types.union_categoricals(columns)
    # pandas 3 may have made strings of them
    return pd.Categorical.from_codes(joined.codes, pd.Index(joined.categories, dtype=object))


def in_categories(column: pd.Series) -> bool:
    """Whether a column's tokens are in categories, as those of a plain file are."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def _count_rows(path: str, config: Config) -> int:
    """Rows after the first line, of which each must have as many fields as that."""
    separator = config["field_separator"]
    # what pandas leaves out
    blank = " \t\n".replace(separator, "")
    rows = 0
    with opened(path, config) as file:
        separators = file.readline().count(separator)
        for number, line in enumerate(file, start=2):
            found = line.count(separator)
            if (found != separators or not separators) and not line.strip(blank):
                continue
            if found != separators:
                reason = (
                    f"{path}, line {number}: {found + 1} field{'s' if found else ''} where the "
                    f"first line has {separators + 1}, separated by {separator!r}"
                )
                if '"' in line:
                    reason += ", quotes being part of a field"
                raise UserError.of("dataset", config["dataset"], reason)
            rows += 1
    return rows
