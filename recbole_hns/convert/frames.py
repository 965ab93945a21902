"""Reading what has typed columns: data frames in memory, and parquet files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recbole_hns.convert.columns import NAMES, names_given, not_understood, place
from recbole_hns.convert.interactions import Interactions, parts
from recbole_hns.convert.readers import reading
from recbole_hns.convert.values import Codes, Times, id_text, number
from recbole_hns.errors import UserError
from recbole_hns.files import is_a

#: Units of time in a second, by Arrow's names.
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

#: What a column may be, for messages.
MEANT = {
    "user": "ids are text or whole numbers",
    "item": "ids are text or whole numbers",
    "rating": "ratings are numbers",
    "timestamp": "times are numbers, dates, timestamps or text with such",
}


class Frame(NamedTuple):
    """Columns, of which only those that are asked for are read.

    Attributes:
        names: of the columns.
        column: reads the one at a place, as Arrow's array.
    """

    names: list[str]
    column: Callable[[int], Any]


def is_frame(value: object) -> bool:
    """Whether a value is a data frame: of pandas, Polars, pyarrow, or what gives Arrow a stream."""
    return is_a(value, "pandas", "DataFrame") or hasattr(value, "__arrow_c_stream__")


def frame_of(source: Any) -> Frame:
    """The columns of a data frame.

    Raises:
        TypeError: if Arrow cannot read it.
    """
    if isinstance(source, Frame):
        return source
    if is_a(source, "pandas", "DataFrame"):
        return Frame(
            [str(name) for name in source.columns],
            lambda at: _of_pandas(source.iloc[:, at]),
        )
    if is_a(source, "polars", "DataFrame"):
        return Frame(source.columns, lambda at: source.to_series(at).to_arrow())
    try:
        table = source if isinstance(source, pa.Table) else pa.table(source)
    except (pa.ArrowException, ValueError) as error:
        raise TypeError(str(error)) from None
    return Frame(table.column_names, table.column)


def _of_pandas(column: Any) -> Any:
    try:
        # null is what pandas takes for missing
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"holds values that are not of one type ({error})") from None


def _parquet(path: str) -> Frame:
    # a folder of parts, as several programs write them, is read as one
    import pyarrow.dataset

    os.stat(path)
    data = pyarrow.dataset.dataset(path, format="parquet")
    names = data.schema.names
    return Frame(names, lambda at: data.to_table([names[at]]).column(0))


def read_parquet(
    paths: Mapping[str, str], names: Mapping[str, str | None] | None = None
) -> Interactions:
    """Read parquet files, or folders of them.

    Args:
        paths: as of :func:`recbole_hns.convert.readers.read_csv`.
        names: likewise.

    Raises:
        UserError: if a file cannot be read, its columns are not understood, a row has no user, item
            or number, there are no interactions, or files differ in what they have.
    """
    return _read({key: (str(path), partial(_parquet, path)) for key, path in paths.items()}, names)


def read_frames(
    frames: Mapping[str, Any], names: Mapping[str, str | None] | None = None
) -> Interactions:
    """Read data frames, as :func:`is_frame` has them.

    Args:
        frames: or :class:`Frame`, by what a message calls each: ``input``, or the parts of a ready
            split.
        names: as of :func:`read_parquet`.

    Raises:
        UserError: likewise.
    """
    sources = {key: ("the frame", partial(frame_of, frame)) for key, frame in frames.items()}
    return _read(sources, names, dashes="")


def _read(
    sources: Mapping[str, tuple[str, Callable[[], Frame]]],
    names: Mapping[str, str | None] | None,
    dashes: str = "--",
) -> Interactions:
    given = names_given(names)
    codes = {"user": Codes(), "item": Codes()}
    read: dict[str, Callable[[Any], NDArray]] = {
        **{field: partial(_codes, codes=known) for field, known in codes.items()},
        "rating": _numbers,
        "timestamp": partial(_seconds, times=Times()),
    }
    sizes: dict[str, int] = {}
    columns: dict[str, str] = {}
    others: list[str] = []
    found: dict[str, list[NDArray]] = {}
    for key, (shown, opened) in sources.items():
        complain = partial(UserError.of, key, shown)
        with reading(key, shown):
            try:
                frame = opened()
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise complain(f"cannot be read: {error}") from None
            placed = place(frame.names, given, shown, complain, dashes)
            if not {"user", "item"} <= placed.keys():
                raise complain(not_understood(frame.names, placed, dashes))
            if found and found.keys() != placed.keys():
                before = next(iter(sources.values()))[0]
                raise complain(f"has {', '.join(placed)} where {before} has {', '.join(found)}")
            for field, at in placed.items():
                name = frame.names[at]
                columns.setdefault(field, name)
                try:
                    values = read[field](frame.column(at))
                except _RowError as error:
                    where = f"column {name!r}, row {error.row} (counted from 0)"
                    raise complain(f"{where}: {error}") from None
                except _TypeError as error:
                    what = f"column {name!r} has the type {error}"
                    raise complain(f"{what}; {MEANT[field]}") from None
                except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                    raise complain(f"column {name!r}: {error}") from None
                found.setdefault(field, []).append(values)
            if len({len(arrays[-1]) for arrays in found.values()}) > 1:
                raise complain("cannot be read: its columns differ in length")
        sizes[key] = len(found["user"][-1])
        if not sizes[key]:
            raise complain("holds no interactions")
        others += [
            name
            for at, name in enumerate(frame.names)
            if at not in placed.values() and name not in others
        ]
    joined = {field: np.concatenate(found[field]) for field in NAMES if field in found}
    return Interactions(
        joined.pop("user"),
        joined.pop("item"),
        list(codes["user"]),
        list(codes["item"]),
        joined,
        part=parts(sizes),
        columns={field: columns[field] for field in NAMES if field in columns},
        other_columns=others,
    )


class _RowError(ValueError):
    """What is wrong with a row."""

    def __init__(self, row: int, reason: object) -> None:
        super().__init__(str(reason))
        self.row = row


class _TypeError(TypeError):
    """What is wrong is the type of a column, which is the message."""


def _plain(array: Any) -> Any:
    """A column without what only stores it otherwise."""
    if isinstance(array.type, pa.BaseExtensionType):
        # such as a period, whose storage is another number
        raise _TypeError(array.type)
    if pa.types.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    if str(array.type) in ("string_view", "binary", "large_binary", "binary_view"):
        array = pc.cast(array, pa.large_string())
    return array


def _codes(array: Any, codes: Codes) -> NDArray[np.int32]:
    """Codes of a column of ids, each distinct id being looked at once."""
    array = _plain(array)
    try:
        unique = pc.unique(array)
        indices = pc.index_in(array, value_set=unique).to_numpy(zero_copy_only=False)
        ids = unique.to_pylist()
    except (pa.ArrowException, ValueError):
        raise _TypeError(array.type) from None
    found = np.empty(len(ids), np.int32)
    for at, id_ in enumerate(ids):
        try:
            found[at] = codes[id_text(id_)]
        except ValueError as error:
            raise _RowError(int(np.argmax(indices == at)), error) from None
    return found[indices]


def _numbers(array: Any, name: str = "rating") -> NDArray[np.float64]:
    """A column of numbers."""
    array = _plain(array)
    if _is_text(array.type) or pa.types.is_null(array.type):
        return _each(array, partial(number, name))
    if pa.types.is_boolean(array.type):
        raise _TypeError(array.type)
    try:
        values = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise _TypeError(array.type) from None
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        # tells what it is
        _each(array.slice(row, 1), partial(number, name), row)
    return values


def _seconds(array: Any, times: Times) -> NDArray[np.float64]:
    """A column of times, as seconds since 1970, those without a time zone being in UTC."""
    array = _plain(array)
    kind = array.type
    if _is_text(kind):
        return _each(array, times)
    if pa.types.is_timestamp(kind):
        # Arrow keeps those of a time zone in UTC
        return _each(pc.cast(array, pa.int64()), _counted(UNITS[kind.unit]))
    if pa.types.is_date(kind):
        days = pc.cast(pc.cast(array, pa.date32()), pa.int32())
        return _each(days, lambda day: 86400.0 * _counted(1)(day))
    return _numbers(array, "timestamp")


def _counted(unit: int) -> Callable[[int | None], float]:
    """Reads how many of so many a second there are."""

    def seconds(count: int | None) -> float:
        if count is None:
            raise ValueError("the timestamp is missing")
        # Python divides integers of any size with one rounding
        return count / unit

    return seconds


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _each(array: Any, read: Callable[[Any], float], first: int = 0) -> NDArray[np.float64]:
    """What ``read`` makes of each value; ``first`` is the first one's row."""
    found = np.empty(len(array), np.float64)
    for row, value in enumerate(array.to_pylist()):
        try:
            found[row] = read(value)
        except ValueError as error:
            raise _RowError(first + row, error) from None
    return found
