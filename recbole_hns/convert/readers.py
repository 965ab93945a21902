"""Reading the formats: adjacency text, MATLAB sparse matrices, and CSV or TSV."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_hns.convert import COLUMN_OPTIONS, PARTS
from recbole_hns.convert.interactions import Interactions
from recbole_hns.errors import UserError

#: What columns are called, in lower case without anything but letters and digits.
NAMES = {
    "user": "user userid uid username reviewer reviewerid customer customerid visitor visitorid "
    "member memberid userprocid",
    "item": "item itemid iid movie movieid product productid asin parentasin business businessid "
    "book bookid isbn artist artistid song songid track trackid anime animeid game gameid video "
    "videoid article articleid news newsid location locationid venue venueid poi poiid itemprocid",
    "rating": "rating ratings score star stars overall bookrating",
    "timestamp": "timestamp time ts unixreviewtime",
}

#: A number so high in place of a rating is a time, in seconds since 1970.
NO_RATING = 1e8

#: What may stand between columns, for messages.
SEPARATORS = "tabs, commas, semicolons, :: or spaces"

#: Digits that an id of adjacency text may have, far from where Python refuses to read an integer.
MOST_DIGITS = 1000


class Codes(dict[Any, int]):
    """Codes 0, 1, ... of ids, in the order in which they are first looked up."""

    def __missing__(self, id_: str | int) -> int:
        if isinstance(id_, str):
            _check_id(id_)
        code = self[id_] = len(self)
        return code


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
        with _reading(key, path), _opened(path, "rb") as file:
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
        part=_parts(sizes),
    )


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
        with _reading("input", path), open(path, "rb") as file:
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
    rows: Iterator[tuple[int, list[str]]]


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
    given = {field: name for field, name in (names or {}).items() if name is not None}
    users, items = Codes(), Codes()
    user, item = array("i"), array("i")
    fields: dict[str, array] = {}
    columns: dict[str, str] = {}
    others: list[str] = []
    sizes: dict[str, int] = {}
    known: Table | None = None
    same_start = _start_alike(paths)
    for key, path in paths.items():
        before = len(user)
        with _reading(key, path), _text(path) as file:
            table = _table(key, path, file, given, same_start)
            if known is None:
                known = table
                if table.header:
                    columns = {
                        field: table.header[table.place[field]]
                        for field in NAMES
                        if field in table.place
                    }
                fields = {
                    name: array("d") for name in ("rating", "timestamp") if name in known.place
                }
            _check_alike(key, path, table, known, next(iter(paths.values())))
            others += [
                name
                for at, name in enumerate(table.header or ())
                if at not in table.place.values() and name not in others
            ]
            user_at, item_at = table.place["user"], table.place["item"]
            further = [(table.place[name], name, values) for name, values in fields.items()]
            for number, row in table.rows:
                if len(row) != table.width:
                    reason = f"{_columns(len(row))} where the first line has {table.width}"
                    raise _malformed(key, path, number, reason)
                try:
                    user.append(users[row[user_at].strip()])
                    item.append(items[row[item_at].strip()])
                    for column, name, values in further:
                        values.append(_number(name, row[column]))
                except ValueError as error:
                    raise _malformed(key, path, number, str(error)) from None
        if len(user) == before:
            raise UserError.of(key, path, "holds no interactions")
        sizes[key] = len(user) - before
    return Interactions(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        {name: np.frombuffer(values) for name, values in fields.items()},
        part=None if "input" in sizes else _parts(sizes),
        columns=columns,
        other_columns=others,
    )


def _table(key: str, path: str, file: Any, given: Mapping[str, str], same_start: bool) -> Table:
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
    place = _places(key, path, number, first, after, given, same_start)
    if place is None:
        place = dict(zip(NAMES, range(len(first)), strict=False))
        return Table(place, None, len(first), itertools.chain(looked_at, lines))
    return Table(place, first, len(first), itertools.chain(looked_at[1:], lines))


def _start_alike(paths: Mapping[str, str]) -> bool:
    """Whether there are several files whose first lines are the same."""
    heads = []
    for key, path in paths.items():
        with _reading(key, path), _text(path) as file:
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


def _parts(sizes: Mapping[str, int]) -> NDArray[np.int8]:
    """The part of each interaction, from the size of each part."""
    return np.repeat(np.array([PARTS.index(key) for key in sizes], np.int8), [*sizes.values()])


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
    # RecBole's own have a type after the name
    columns = [re.sub(":(token|float)(_seq)?$", "", column.strip()) for column in first]
    plain = ["".join(filter(str.isalnum, column.lower())) for column in columns]
    place: dict[str, int] = {}
    for field, option in COLUMN_OPTIONS.items():
        name = given.get(field)
        if name is not None and name not in columns:
            raise UserError.of(option, name, f"{path} has the columns {', '.join(columns)}")
        found = [
            at
            for at, column in enumerate(columns)
            if (plain[at] in NAMES[field].split() and field not in given) or column == name
        ]
        if len(found) > 1:
            both = " and ".join(repr(columns[at]) for at in found)
            reason = f"{both} may each be the {field}; name one with --{option}=NAME"
            raise _malformed(key, path, number, reason)
        if found:
            place[field] = found[0]
    if len(set(place.values())) < len(place):
        raise _malformed(key, path, number, "one column is named as two")
    if {"user", "item"} <= place.keys():
        return place
    header = bool(place) or _may_be_header(columns, after)
    if header and same_start and len(first) == 2:
        missing = [field for field in ("user", "item") if field not in place]
        free = [at for at in range(2) if at not in place.values()]
        if len(missing) == len(free):
            return {**place, **dict(zip(missing, free, strict=True))}
    if not 2 <= len(first) <= 4:
        reason = (
            f"{_columns(len(first))} without names that tell which are user and item; what is read "
            f"are {SEPARATORS} between user, item and, where known, rating and timestamp"
        )
        raise _malformed(key, path, number, reason)
    if header:
        reason = (
            f"of {', '.join(map(repr, columns))} it is not understood which are user and item; "
            f"name them with --user_column=NAME and --item_column=NAME, or put a line such as "
            f"user,item above interactions"
        )
        raise _malformed(key, path, number, reason)
    if len(first) > 2 and float(first[2]) >= NO_RATING:
        reason = f"{first[2]} is no rating; put a line such as user,item,timestamp above"
        raise _malformed(key, path, number, reason)
    return None


def _may_be_header(first: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a line has no digits, or a word where a number must or does follow."""
    if not any(character.isdigit() for column in first for character in column):
        return True
    if not all(map(_is_number, first[2:])):
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
    return _opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def _opened(path: str, mode: str, **how: Any) -> Any:
    """A file, or what is in it where gzip has compressed it."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, mode, **how) if compressed else open(path, mode, **how)


def _check_id(id_: str) -> None:
    if not id_:
        raise ValueError("an id is empty")
    if not id_.isprintable():
        raise ValueError(f"the id {id_!a} has characters that cannot be printed, or is not UTF-8")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the {name} {text!r} is no number")
    return value


def _no_id(ids: Sequence[bytes]) -> str:
    bad = next(id_ for id_ in ids if not id_.isdigit() or len(id_) > MOST_DIGITS)
    shown = bad[:40].decode(errors="backslashreplace")
    return f"{shown!r} is no id, which must be a whole number >= 0"


def _columns(number: int) -> str:
    return f"{number} column{'' if number == 1 else 's'}"


def _malformed(key: str, path: str, line: int, reason: str) -> UserError:
    return UserError.of(key, path, f"line {line}: {reason}")


@contextmanager
def _reading(key: str, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError.of(key, path, f"cannot be read: {reason}") from None
