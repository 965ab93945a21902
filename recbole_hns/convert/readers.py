"""Reading files a line at a time: adjacency text, CSV or TSV, JSON; and MATLAB sparse matrices."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert.columns import NAMES, names_given, not_understood, place
from recbole_hns.convert.interactions import Interactions, parts
from recbole_hns.convert.values import Codes, Times, id_text, iso_time, number
from recbole_hns.errors import UserError

#: A number so high in place of a rating is a time, in seconds since 1970.
NO_RATING = 1e8

#: What may stand between columns, for messages.
SEPARATORS = "tabs, commas, semicolons, :: or spaces"

#: Digits that an id of adjacency text may have, far from where Python refuses to read an integer.
MOST_DIGITS = 1000


def read_adjacency(paths: Mapping[str, str]) -> Interactions:
    """Read ``user item item ...`` lines of whole numbers, a file for each part.

    A user may have several lines, or a line without items. A pair that is in several parts counts
    to the first once repeats are left out.

    Args:
        paths: of the files, by their part; in the order of :data:`PARTS`.

    Raises:
        UserError: if a file cannot be read, a line is malformed, or a part is empty.
    """
    users, items = Codes(), Codes()
    user, item = array("i"), array("i")
    sizes = {}
    for key, path in paths.items():
        before = len(user)
        with reading(key, path), opened(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                ids = line.removeprefix(b"\xef\xbb\xbf").split()
                if not ids:
                    continue
                if not b"".join(ids).isdigit() or len(max(ids, key=len)) > MOST_DIGITS:
                    raise _malformed(key, path, number, _no_id(ids))
                first, *others = map(int, ids)
                if others:
                    user.extend([users[first]] * len(others))
                    item.extend([items[other] for other in others])
        if len(user) == before:
            raise UserError.of(key, path, "holds no interactions")
        sizes[key] = len(user) - before
    return Interactions(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        part=parts(sizes),
    )


def read_sequences(path: str) -> Interactions:
    """Read ``user item item ...`` lines of whole numbers, the items in the order of time.

    A user may have several lines, which are one sequence then, and an item several times.

    Args:
        path: of the file.

    Returns:
        The interactions, with the position of each in its user's sequence, from 1, as its time.

    Raises:
        UserError: as of :func:`read_adjacency`.
    """
    found = read_adjacency({"input": path})
    order = np.argsort(found.user, kind="stable")
    owner = found.user[order]
    position = np.empty(len(found))
    position[order] = np.arange(1, len(order) + 1) - np.searchsorted(owner, owner)
    found.fields["timestamp"] = position
    return found


def read_mat(path: str, variable: str = "data") -> Interactions:
    """Read a MATLAB matrix of users x items; what is not 0 is an interaction.

    Args:
        path: a file of MATLAB's format 4 to 7.2.
        variable: name of the matrix in it.

    Raises:
        UserError: if the file cannot be read or holds no such matrix.
    """
    # which takes a while to import, and only this format needs
    import scipy.io
    import scipy.sparse

    try:
        with reading("input", path), open(path, "rb") as file:
            matrix = scipy.io.loadmat(file, variable_names=[variable]).get(variable)
            names = [] if matrix is not None else [name for name, *_ in scipy.io.whosmat(file)]
    except UserError:
        raise
    except NotImplementedError:
        allowed = "is of MATLAB's format 7.3; save it with '-v7'"
        raise UserError.of("input", path, allowed) from None
    except (
        Exception
    ) as error:  # what a reader of arbitrary bytes raises is as arbitrary as they are
        raise UserError.of("input", path, f"is no MATLAB file: {error}") from None
    if matrix is None:
        found = ", ".join(names) or "nothing"
        raise UserError.of("input", path, f"must hold the matrix {variable}; it holds {found}")
    if matrix.dtype.kind not in "biuf" or matrix.ndim != 2:
        raise UserError.of("input", path, f"{variable} must be a matrix of numbers")
    matrix = scipy.sparse.csr_matrix(matrix)
    matrix.eliminate_zeros()
    matrix = matrix.tocoo()
    if not matrix.nnz:
        raise UserError.of("input", path, "holds no interactions")
    rows, columns = matrix.shape
    return Interactions(matrix.row, matrix.col, range(rows), range(columns))


class Table(NamedTuple):
    """The lines of a file of columns.

    Attributes:
        place: index of the column of ``user``, ``item`` and, where known, ``rating`` and
            ``timestamp``.
        header: names of the columns; None without a header.
        width: how many columns there are.
        rows: the rows under the header, each with its line's number.
    """

    place: dict[str, int]
    header: list[str] | None
    width: int
    rows: Iterator[tuple[int, list[Any]]]


def read_csv(
    paths: Mapping[str, str], names: Mapping[str, str | None] | None = None
) -> Interactions:
    """Read lines with a user, an item and, where known, a rating and a timestamp.

    The first line gives the separator and the number of columns. Where it is a header, columns are
    placed by their names; else they are, in this order, user, item, rating and timestamp. Files of
    a ready split have all a header or none, and the same of these columns; where they have two
    columns and the same header, names that are not understood are user and item, in this order.

    Args:
        paths: of the file, as ``input``; or of those of a ready split, by their part, in the order
            of :data:`PARTS`. Text, or text that is compressed by gzip.
        names: of the columns, by ``user``, ``item``, ``rating``, ``timestamp``; default, also of
            one that is None: what :data:`NAMES` has.

    Raises:
        UserError: if a file cannot be read, its first line is not understood, a line is malformed,
            there are no interactions, or files differ in what they have.
    """
    same_start = _start_alike(paths)
    found = _read_lines(paths, partial(_csv_table, given=names_given(names), same_start=same_start))
    found.user, found.user_ids = _whole(found.user, found.user_ids)
    found.item, found.item_ids = _whole(found.item, found.item_ids)
    return found


def read_jsonl(
    paths: Mapping[str, str], names: Mapping[str, str | None] | None = None
) -> Interactions:
    """Read lines that are JSON objects, all with the keys of user and item that the first has.

    Args:
        paths: as of :func:`read_csv`.
        names: of the keys; likewise.

    Raises:
        UserError: if a file cannot be read, a line is none such, there are no interactions, or
            files differ in what they have.
    """
    return _read_lines(paths, partial(_json_table, given=names_given(names)), id_text)


def _read_lines(
    paths: Mapping[str, str],
    table_of: Callable[[str, str, Any], Table],
    text: Callable[[Any], str] = str.strip,
) -> Interactions:
    """Read what the rows of files have as user, item, rating and timestamp.

    Args:
        paths: of the files, by the option that names them.
        table_of: looks at an open file, after its option and its path.
        text: makes an id of what a row has there.
    """
    users, items = Codes(), Codes()
    user, item = array("i"), array("i")
    fields: dict[str, array] = {}
    readers: dict[str, Callable[[Any], float]] = {
        "rating": partial(number, "rating"),
        "timestamp": Times(),
    }
    columns: dict[str, str] = {}
    others: list[str] = []
    sizes: dict[str, int] = {}
    known: Table | None = None
    for key, path in paths.items():
        before = len(user)
        with reading(key, path), _text(path) as file:
            table = table_of(key, path, file)
            if known is None:
                known = table
                if table.header:
                    columns = {
                        field: table.header[table.place[field]]
                        for field in NAMES
                        if field in table.place
                    }
                fields = {name: array("d") for name in readers if name in known.place}
            _check_alike(key, path, table, known, next(iter(paths.values())))
            others += [
                name
                for at, name in enumerate(table.header or ())
                if at not in table.place.values() and name not in others
            ]
            user_at, item_at = table.place["user"], table.place["item"]
            further = [(table.place[name], readers[name], fields[name]) for name in fields]
            for line, row in table.rows:
                if len(row) != table.width:
                    reason = f"{_columns(len(row))} where the first line has {table.width}"
                    raise _malformed(key, path, line, reason)
                try:
                    user.append(users[text(row[user_at])])
                    item.append(items[text(row[item_at])])
                    for column, read, values in further:
                        values.append(read(row[column]))
                except ValueError as error:
                    raise _malformed(key, path, line, str(error)) from None
        if len(user) == before:
            raise UserError.of(key, path, "holds no interactions")
        sizes[key] = len(user) - before
    return Interactions(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        {name: np.frombuffer(values) for name, values in fields.items()},
        part=parts(sizes),
        columns=columns,
        other_columns=others,
    )


def _whole(
    codes: NDArray[np.int32], ids: Sequence[str | int]
) -> tuple[NDArray[np.int32], Sequence[str | int]]:
    """Ids such as 196.0, as programs write a column that once had a gap, as whole numbers."""
    whole = [str(id_).removesuffix(".0") for id_ in ids]
    if whole == ids or not all(text.isascii() and text.isdigit() for text in whole):
        return codes, ids
    merged = Codes()
    code = np.array([merged[text] for text in whole], np.int32)
    return code[codes], list(merged)


def _csv_table(key: str, path: str, file: Any, given: Mapping[str, str], same_start: bool) -> Table:
    """The lines of a file, whose first one is looked at."""
    head = next((line for line in file if line.strip()), "")
    delimiter = next((mark for mark in ("\t", ",", ";", "::") if mark in head), " ")
    file.seek(0)
    lines = _rows(key, path, file, delimiter)
    looked_at = list(itertools.islice(lines, 2))
    if not looked_at:
        raise UserError.of(key, path, "holds no interactions")
    number, first = looked_at[0]
    after = looked_at[-1][1] if len(looked_at) > 1 else []
    placed = _places(key, path, number, first, after, given, same_start)
    if placed is None:
        placed = dict(zip(NAMES, range(len(first)), strict=False))
        return Table(placed, None, len(first), itertools.chain(looked_at, lines))
    return Table(placed, first, len(first), itertools.chain(looked_at[1:], lines))


def _json_table(key: str, path: str, file: Any, given: Mapping[str, str]) -> Table:
    """The objects of a file, of which the first says which keys there are."""
    records = _records(key, path, file)
    number, first = next(records, (0, {}))
    if not number:
        raise UserError.of(key, path, "holds no interactions")
    complain = partial(_malformed, key, path, number)
    header = list(first)
    placed = place(header, given, path, complain)
    if not {"user", "item"} <= placed.keys():
        raise complain(not_understood(header, placed))

    def rows() -> Iterator[tuple[int, list[Any]]]:
        seen = set(header)
        for line, record in itertools.chain([(number, first)], records):
            if not record.keys() <= seen:
                seen.update(record)
                new = place(sorted(seen), given, path, partial(_malformed, key, path, line))
                for field in new.keys() - placed.keys():
                    found = f"has the {field} {sorted(seen)[new[field]]!r}"
                    raise _malformed(key, path, line, f"{found}, which line {number} has not")
            yield line, [record.get(name) for name in header]

    return Table(placed, header, len(header), rows())


def _records(key: str, path: str, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of each line that is not blank, with the line's number."""
    for at, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or error
            raise _malformed(key, path, at, f"is no JSON: {reason}") from None
        if not isinstance(record, dict):
            example = '{"user": "u1", "item": "i1"}'
            raise _malformed(key, path, at, f"is no JSON object, such as {example}")
        yield at, record


def _start_alike(paths: Mapping[str, str]) -> bool:
    """Whether there are several files whose first lines are the same."""
    heads = []
    for key, path in paths.items():
        with reading(key, path), _text(path) as file:
            heads.append(next((line for line in file if line.strip()), "").strip())
        if not heads[-1]:
            raise UserError.of(key, path, "holds no interactions")
    return len(heads) > 1 and len(set(heads)) == 1


def _check_alike(key: str, path: str, table: Table, known: Table, other: str) -> None:
    """See that a file has a header, and the columns, that the first of a ready split has."""
    if (table.header is None) != (known.header is None):
        has = "has no header, which" if table.header is None else "has a header, and"
        raise UserError.of(key, path, f"{has} {other} has{'' if known.header else ' none'}")
    if table.place.keys() != known.place.keys():
        found, wanted = (", ".join(each.place) for each in (table, known))
        raise UserError.of(key, path, f"has {found} where {other} has {wanted}")


def _places(
    key: str,
    path: str,
    number: int,
    first: list[str],
    after: list[str],
    given: Mapping[str, str],
    same_start: bool,
) -> dict[str, int] | None:
    """Where a header has user, item, rating and timestamp; None if the first line is none.

    Args:
        key: the option that names the file.
        path: of the file.
        number: of the first line.
        first: its columns.
        after: the columns of the line after it.
        given: names that the user gave.
        same_start: whether other files start with the same line.

    Raises:
        UserError: if it may be a header and has no user, no item, or several of one.
    """
    columns = [column.strip() for column in first]
    complain = partial(_malformed, key, path, number)
    placed = place(columns, given, path, complain)
    if {"user", "item"} <= placed.keys():
        return placed
    header = bool(placed) or _may_be_header(columns, after)
    if header and same_start and len(first) == 2:
        missing = [field for field in ("user", "item") if field not in placed]
        free = [at for at in range(2) if at not in placed.values()]
        if len(missing) == len(free):
            return {**placed, **dict(zip(missing, free, strict=True))}
    if len(first) < 2 or (len(first) > 4 and not header):
        reason = (
            f"{_columns(len(first))} without names that tell which are user and item; what is read "
            f"are {SEPARATORS} between user, item and, where known, rating and timestamp"
        )
        raise complain(reason)
    if header:
        reason = not_understood(columns, placed)
        raise complain(f"{reason}, or put a line such as user,item above interactions")
    if len(first) > 2 and (not _is_number(first[2]) or float(first[2]) >= NO_RATING):
        reason = f"{first[2]} is no rating; put a line such as user,item,timestamp above"
        raise complain(reason)
    return None


def _may_be_header(first: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a line has no digits, or a word where a number must or does follow."""
    if not any(character.isdigit() for column in first for character in column):
        return True
    if not all(_is_number(text) or iso_time(text.strip()) for text in first[2:]):
        return True
    return any(not _is_number(a) and _is_number(b) for a, b in zip(first, after, strict=False))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rows(key: str, path: str, file: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line."""
    if len(delimiter) > 1:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(delimiter)
        return
    lines = map(str.strip, file) if delimiter == " " else file
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ", strict=True)
    number = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise _malformed(key, path, number, str(error)) from None


def _text(path: str) -> Any:
    # bytes that are not UTF-8 are reported where they are part of an id, with its line
    return opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def opened(path: str, mode: str, **how: Any) -> Any:
    """A file, or what is in it where gzip has compressed it."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, mode, **how) if compressed else open(path, mode, **how)


def _no_id(ids: Sequence[bytes]) -> str:
    bad = next(id_ for id_ in ids if not id_.isdigit() or len(id_) > MOST_DIGITS)
    shown = bad[:40].decode(errors="backslashreplace")
    return f"{shown!r} is no id, which must be a whole number >= 0"


def _columns(number: int) -> str:
    return f"{number} column{'' if number == 1 else 's'}"


def _malformed(key: str, path: str, line: int, reason: str) -> UserError:
    return UserError.of(key, path, f"line {line}: {reason}")


@contextmanager
def reading(key: str, path: str) -> Iterator[None]:
    """Tell of a file that cannot be read in one line."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError.of(key, path, f"cannot be read: {reason}") from None
