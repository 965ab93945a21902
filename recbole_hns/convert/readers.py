"""Reading the formats: adjacency text, MATLAB sparse matrices, and CSV or TSV."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from recbole_hns.convert.interactions import Interactions
from recbole_hns.errors import UserError

#: Ids that RecBole's reader, pandas, takes for a missing value.
READ_AS_MISSING = {
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
    "NA",
} | {"-NaN", "-nan", "NULL", "NaN", "None", "n/a", "nan", "null"}

#: What the first column is called where a file has a header.
USER_HEADERS = frozenset({"user", "user_id", "userid", "uid", "user_id:token"})

#: Digits that an id of adjacency text may have, far from where Python refuses to read an integer.
MOST_DIGITS = 1000


class Codes(dict[Any, int]):
    """Codes 0, 1, ... of ids, in the order in which they are first looked up."""

    def __missing__(self, id_: str | int) -> int:
        if isinstance(id_, str):
            _check_id(id_)
        code = self[id_] = len(self)
        return code


def read_adjacency(train: str, test: str) -> Interactions:
    """Read ``user item item ...`` lines of whole numbers, a file for either part.

    A user may have several lines, or a line without items. A pair that is in both parts counts as
    trained with once repeats are left out.

    Args:
        train: path of the training part.
        test: path of the test part.

    Raises:
        UserError: if a file cannot be read, a line is malformed, or a part is empty.
    """
    users, items = Codes(), Codes()
    user, item = array("i"), array("i")
    sizes = []
    for key, path in (("train", train), ("test", test)):
        before = len(user)
        with _reading(key, path), open(path, "rb") as file:
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
        sizes.append(len(user) - before)
    return Interactions(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        is_test=np.repeat([False, True], sizes),
    )


def read_mat(path: str, variable: str = "data") -> Interactions:
    """Read a MATLAB matrix of users x items; what is not 0 is an interaction.

    Args:
        path: a file of MATLAB's format 4 to 7.2.
        variable: name of the matrix in it.

    Raises:
        UserError: if the file cannot be read or holds no such matrix.
    """
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


def read_csv(path: str) -> Interactions:
    """Read ``user item [rating] [timestamp]`` lines with tabs, commas, semicolons or spaces.

    The first line gives the separator and the number of columns. It is a header if its first
    column is called as users are, or if its third or fourth is no number. A third column with a
    header that starts with ``time`` is the timestamp.

    Raises:
        UserError: if the file cannot be read, a line is malformed, or there are no interactions.
    """
    users, items = Codes(), Codes()
    user, item = array("i"), array("i")
    with _reading("input", path), _text(path) as file:
        head = next((line for line in file if line.strip()), "")
        delimiter = next((mark for mark in "\t,;" if mark in head), " ")
        file.seek(0)
        lines = _rows(path, file, delimiter)
        number, row = next(lines, (1, []))
        if not row:
            raise UserError.of("input", path, "holds no interactions")
        width = len(row)
        if not 2 <= width <= 4:
            reason = f"{_columns(width)}; there must be a user, an item and, where known, a rating "
            raise _malformed("input", path, number, f"{reason}and a timestamp")
        header = _is_header(row)
        names = ["rating", "timestamp"][: width - 2]
        if header and width == 3 and row[2].strip().lower().startswith("time"):
            names = ["timestamp"]
        fields = {name: array("d") for name in names}
        further = list(enumerate(fields.items(), start=2))
        if header:
            number, row = next(lines, (number, []))
        while row:
            if len(row) != width:
                reason = f"{_columns(len(row))} where the first line has {width}"
                raise _malformed("input", path, number, reason)
            try:
                user.append(users[row[0].strip()])
                item.append(items[row[1].strip()])
                for column, (name, values) in further:
                    values.append(_number(name, row[column]))
            except ValueError as error:
                raise _malformed("input", path, number, str(error)) from None
            number, row = next(lines, (number, []))
    if not user:
        raise UserError.of("input", path, "holds no interactions")
    return Interactions(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        {name: np.frombuffer(values) for name, values in fields.items()},
    )


def _rows(path: str, file: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line."""
    lines = map(str.strip, file) if delimiter == " " else file
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ", strict=True)
    number = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise _malformed("input", path, number, str(error)) from None


def _text(path: str) -> Any:
    # bytes that are not UTF-8 are reported where they are part of an id, with its line
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _is_header(row: Sequence[str]) -> bool:
    if row[0].strip().lower() in USER_HEADERS:
        return True
    try:
        return not all(math.isfinite(float(value)) for value in row[2:])
    except ValueError:
        return True


def _check_id(id_: str) -> None:
    if not id_:
        raise ValueError("an id is empty")
    if id_ in READ_AS_MISSING:
        raise ValueError(f"the id {id_} would be read as a missing value")
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
    except OSError as error:
        raise UserError.of(key, path, f"cannot be read: {error.strerror or error}") from None
