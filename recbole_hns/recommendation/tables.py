"""Users and items by the names that the data set has for them, and lists of them in files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from recbole_hns.convert.columns import FURTHER_NAMES, NAMES
from recbole_hns.convert.values import id_text
from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory

if TYPE_CHECKING:
    from recbole_hns.data.dataset import Dataset
    from recbole_hns.recommendation.lists import Ids, Ranked

#: Names of the column of users in a file, those that go before others first.
USER_COLUMNS = [names["user"].split() for names in (NAMES, FURTHER_NAMES)]


def user_ids(dataset: Dataset, users: Any, key: str, given: object = None) -> Ids:
    """Internal ids of users, by the names that the data set has for them.

    Args:
        dataset: the data set.
        users: a name or several; None for all users of the data set.
        key: what to call them in a message.
        given: what was given there, if not the names.

    Raises:
        UserError: for a name that is none.
    """
    if users is None:
        return np.arange(1, dataset.user_num)
    return _ids(dataset, dataset.uid_field, users, key, "user", given)


def item_ids(dataset: Dataset, items: Any, key: str) -> Ids:
    """Internal ids of items likewise."""
    return _ids(dataset, dataset.iid_field, items, key, "item")


def _ids(
    dataset: Dataset, field: str, names: Any, key: str, kind: str, given: object = None
) -> Ids:
    single = isinstance(names, (str, bytes)) or not isinstance(names, Iterable)
    known: Mapping[str, int] = dataset.field2token_id[field]
    listed = [_name(name, known) for name in ([names] if single else names)]
    # 0 is RecBole's padding, and nobody
    ids = np.fromiter((known.get(name, 0) for name in listed), np.int64, len(listed))
    unknown = np.flatnonzero(ids == 0)
    if len(unknown):
        first = listed[unknown[0]]
        which = f"is no {kind}" if single else f"{len(unknown)} of {len(ids)} are no {kind}s"
        example = "" if single else f", {first!r} first"
        allowed = f"{which} of dataset={dataset.dataset_name}{example}"
        shown = names if single else _short(listed)
        raise UserError.of(key, shown if given is None else given, allowed)
    return ids


def _name(name: Any, known: Mapping[str, int]) -> str:
    text = str(name)
    # 196.0 of a data frame is 196 in the data set that was made of it
    return text.removesuffix(".0") if isinstance(name, float) and text not in known else text


def _short(names: list[str]) -> str:
    return ",".join(names[:3]) + (",..." if len(names) > 3 else "")


def names_of(dataset: Dataset, field: str) -> pa.Array:
    """The names of a field's internal ids, as strings."""
    return pa.array([str(name) for name in dataset.field2id_token[field]], pa.string())


def as_tables(parts: Iterable[Ranked], dataset: Dataset, head: str) -> Iterator[pa.Table]:
    """Lists by the data set's names.

    Args:
        parts: the lists.
        dataset: the data set.
        head: name of the first column: ``user``, or ``related_to`` for lists of similar items.

    Yields:
        Tables of the columns ``head``, ``item``, ``rank`` and ``score``.
    """
    items = names_of(dataset, dataset.iid_field)
    heads = names_of(dataset, dataset.uid_field) if head == "user" else items
    schema = table_schema(head)
    for part in parts:
        columns = [heads.take(part.of), items.take(part.item), part.rank, part.score]
        columns = [
            pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
        ]
        yield pa.Table.from_arrays(columns, schema=schema)


def table_schema(head: str) -> pa.Schema:
    """The columns of lists, as :func:`as_tables` has them."""
    kinds = {head: pa.string(), "item": pa.string(), "rank": pa.int32(), "score": pa.float32()}
    return pa.schema(list(kinds.items()))


def as_frame(parts: Iterable[Ranked], dataset: Dataset, head: str) -> pd.DataFrame:
    """All lists, as a data frame."""
    tables = list(as_tables(parts, dataset, head))
    return pa.concat_tables(tables or [table_schema(head).empty_table()]).to_pandas()


# --- files ----------------------------------------------------------------------------------------


def read_users(path: str | os.PathLike[str]) -> list[str]:
    """The users that a file names, each once, in its order.

    A parquet file has them in a column with a usual name, such as ``user`` or ``customer_id``, or
    in its only one; a file of JSON lines has one a line, or objects with such a key. Any other is
    text: one name a line, or columns separated by commas or tabs, whose first line names one of
    them so.

    Raises:
        UserError: if it cannot be read, has no such column or no user.
    """
    try:
        names = READERS.get(Path(path).suffix.lower(), _text_column)(path)
    except OSError as error:
        raise UserError.of("users", path, f"cannot be read ({error.strerror or error})") from None
    except UserError:
        raise
    # what is no text, no JSON or no id is told by a ValueError
    except (pa.ArrowException, ValueError, RecursionError, csv.Error) as error:
        raise UserError.of("users", path, f"cannot be read ({error})") from None
    names = list(dict.fromkeys(name for name in names if name != ""))
    if not names:
        raise UserError.of("users", path, "names no user")
    return names


def _parquet_column(path: str | os.PathLike[str]) -> list[str]:
    file = pyarrow.parquet.ParquetFile(path)
    columns = file.schema_arrow.names
    column = columns[_user_column(path, columns)]
    read = file.read(columns=[column]).column(0)
    return [id_text(name) for name in read.drop_null().to_pylist()]


def _json_column(path: str | os.PathLike[str]) -> list[str]:
    with open(path, encoding="utf-8-sig") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    if lines and isinstance(lines[0], dict):
        columns = list(lines[0])
        column = columns[_user_column(path, columns)]
        lines = [line.get(column) if isinstance(line, dict) else None for line in lines]
    return [id_text(name) for name in lines]


#: How names are read, by the suffix of the file; any other is text.
READERS = {".parquet": _parquet_column, ".jsonl": _json_column, ".ndjson": _json_column}


def _text_column(path: str | os.PathLike[str]) -> list[str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        lines = csv.reader(file, delimiter="\t" if "\t" in first else ",")
        head = next(lines, [])
        file.seek(0)
        named = any(_plain(name) in names for names in USER_COLUMNS for name in head)
        if named or len(head) > 1:
            column = _user_column(path, head)
            next(lines)
        else:
            column = 0
        return [line[column] for line in lines if len(line) > column]


def _user_column(path: str | os.PathLike[str], columns: list[str]) -> int:
    for names in USER_COLUMNS:
        for index, name in enumerate(columns):
            if _plain(name) in names:
                return index
    if len(columns) != 1:
        allowed = f"must have a column user or user_id; its columns are {', '.join(columns)}"
        raise UserError.of("users", path, allowed)
    return 0


def _plain(column: str) -> str:
    # RecBole's files name the type too: user_id:token
    return "".join(filter(str.isalnum, column.partition(":")[0].lower()))


def check_output(path: str | os.PathLike[str]) -> None:
    """See, before anything else, that lists can be written to a file.

    Raises:
        UserError: if its suffix is none of those that there are, or it cannot be written.
    """
    if Path(path).suffix not in WRITERS:
        allowed = f"must end in {', '.join([*WRITERS][:-1])} or {[*WRITERS][-1]}"
        raise UserError.of("output", path, allowed)
    if Path(path).is_dir():
        raise UserError.of("output", path, "is a directory; must be a file")
    # directories that are missing are made when there is something to write
    near = next(each for each in Path(path).absolute().parents if os.path.exists(each))
    writable_directory("output", str(near))


def write_tables(tables: Iterable[pa.Table], head: str, path: str | os.PathLike[str]) -> int:
    """Write lists to a file, whose suffix says how, a part at a time.

    Args:
        tables: the lists, as :func:`as_tables` gives them.
        head: name of the first column.
        path: the file, as :func:`check_output` has it; it appears complete or not at all.

    Returns:
        The number of lines.

    Raises:
        UserError: if it cannot be written.
    """
    count = 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        with WRITERS[Path(path).suffix](file, table_schema(head)) as add:
            for table in tables:
                add(table)
                count += len(table)

    writable_directory("output", str(Path(path).absolute().parent))
    replace_file(path, write)
    return count


@contextmanager
def _parquet(file: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        yield writer.write_table


@contextmanager
def _csv(file: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    file.write(",".join(schema.names).encode() + b"\n")

    def add(table: pa.Table) -> None:
        # pyarrow's writer would put every name in quotes
        text = table.to_pandas().to_csv(index=False, header=False, lineterminator="\n")
        file.write(text.encode())

    yield add


@contextmanager
def _jsonl(file: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    def add(table: pa.Table) -> None:
        if len(table):
            text = table.to_pandas().to_json(orient="records", lines=True, force_ascii=False)
            file.write(text.encode())

    yield add


#: How lists are written, by the suffix of the file.
WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
