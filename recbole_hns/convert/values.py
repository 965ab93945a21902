"""Ids, numbers and times as sources have them: text, or values with a type."""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

#: Whole numbers up to here are exact in double precision; a larger id may be another's.
EXACT = 2**53

#: A date, a time of day with a fraction, and a time zone, as ISO 8601 and most programs write them.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,18}))?)?"
    r" ?(?:(Z|UTC)|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1)


class Codes(dict[Any, int]):
    """Codes 0, 1, ... of ids, in the order in which they are first looked up."""

    def __missing__(self, id_: str | int) -> int:
        if isinstance(id_, str):
            _check_id(id_)
        code = self[id_] = len(self)
        return code


def _check_id(id_: str) -> None:
    if not id_:
        raise ValueError("an id is empty")
    if not id_.isprintable():
        raise ValueError(f"the id {id_!a} has characters that cannot be printed, or is not UTF-8")


def id_text(value: Any) -> str:
    """An id as text: whole numbers by their digits, whatever type has them.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(value)
    if is_missing(value):
        raise ValueError("an id is missing")
    numeric = isinstance(value, (Real, Decimal)) and not isinstance(value, bool)
    if numeric and math.isfinite(value) and value == int(value):
        if isinstance(value, Real) and abs(float(value)) > EXACT:
            reason = "has more digits than a floating-point number keeps; give ids as text"
            raise ValueError(f"the id {_short(value)} {reason}")
        return str(int(value))
    raise ValueError(f"{_short(value)} is no id, which must be text or a whole number")


def is_missing(value: Any) -> bool:
    """Whether a value is null or not a number."""
    return value is None or (isinstance(value, (float, Decimal)) and math.isnan(value))


def number(name: str, value: Any) -> float:
    """A finite number.

    Args:
        name: what it is, for the message.
        value: the number or its text.

    Raises:
        ValueError: for anything else.
    """
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found) or value is True or value is False:
        if is_missing(value):
            raise ValueError(f"the {name} is missing")
        raise ValueError(f"the {name} {_short(value)} is no number")
    return found


class Times:
    """Reads the times of a column, one by one: seconds since 1970.

    They are numbers, taken as they are, or dates with or without a time of day, those without a
    time zone being in UTC. All of a column are of one kind.
    """

    def __init__(self) -> None:
        self._kind = ""

    def __call__(self, value: Any) -> float:
        """A time.

        Raises:
            ValueError: if it is none, or not of the kind of those before.
        """
        kind, seconds = _time(value)
        if kind != self._kind:
            if self._kind:
                reason = f"is {kind}, where those before are each {self._kind}"
                raise ValueError(f"the timestamp {_short(value)} {reason}")
            self._kind = kind
        return seconds


def _time(value: Any) -> tuple[str, float]:
    if isinstance(value, str) and value.lstrip()[4:5] == "-":
        found = iso_time(value.strip())
        if found is not None:
            return found
    try:
        return "a number", number("timestamp", value)
    except ValueError as error:
        if not isinstance(value, str):
            raise
        reason = f"{error}, and no date such as 2024-05-31 or 2024-05-31T14:05:00Z"
        raise ValueError(reason) from None


def iso_time(text: str) -> tuple[str, float] | None:
    """Kind and seconds since 1970 of an ISO 8601 date; None if it is none.

    The seconds are those of the text, rounded once.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    date, minute, second, fraction, utc, sign, hours, minutes = match.groups()
    try:
        at = datetime.fromisoformat(f"{date}T{minute or '00:00'}:{second or '00'}")
    except ValueError:  # there is no such day
        return None
    since = at - _EPOCH
    whole = since.days * 86400 + since.seconds
    if sign:
        ahead = int(hours) * 3600 + int(minutes or 0) * 60
        whole -= ahead if sign == "+" else -ahead
    kind = "a date with a time zone" if utc or sign else "a date without a time zone"
    if not fraction:
        return kind, float(whole)
    # Python divides integers of any size with one rounding
    unit = 10 ** len(fraction)
    return kind, (whole * unit + int(fraction)) / unit


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
