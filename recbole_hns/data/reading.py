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

import pandas as pd
import recbole.data.dataset.dataset as recbole_dataset

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

    That is by pandas' C parser, ten times as fast as the one RecBole names.
    """

    def read_csv(
        path: str, *, usecols: list[str], dtype: dict[str, type], **_: Any
    ) -> pd.DataFrame:
        return read_table(path, config, usecols, dtype)

    pandas = SimpleNamespace(**{**vars(pd), "read_csv": read_csv})
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
