"""Times, numbers and ids against slow literal readings of them."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns.convert.frames import Frame, read_frames
from recbole_hns.convert.values import Times, id_text, number

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

datetimes = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def literal(at, digits=""):
    """Seconds since 1970, in rational numbers until the end."""
    since = at.replace(microsecond=0) - EPOCH
    fraction = Fraction(int(digits or 0), 10 ** len(digits))
    return float(Fraction(since.days * 86400 + since.seconds) + fraction)


@given(datetimes, zones, st.text("0123456789", max_size=12), st.sampled_from("T "), st.data())
def test_iso_times_are_rounded_once(at, zone, digits, mark, data):
    text = at.strftime(f"%Y-%m-%d{mark}%H:%M:%S").rjust(19, "0")
    if digits:
        text += data.draw(st.sampled_from(".,")) + digits
    utc = at.replace(tzinfo=timezone.utc)
    for end in ("", "Z", " UTC", "+00:00", "-0000", "+00"):
        assert Times()(text + end) == literal(utc, digits)
    assert Times()(text + str(zone)[3:]) == literal(at.replace(tzinfo=zone), digits)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59.75Z", -0.25),
        ("2024-02-29", 1709164800),
        ("2024-02-29 12:30", 1709209800),
        (" 2024-02-29 ", 1709164800),
        ("2024-02-29T12:30+0530", 1709190000),
        ("0001-01-01", -62135596800),
        ("17", 17),
        ("-1.5e3", -1500),
        (1709164800, 1709164800),
        (Decimal("0.5"), 0.5),
    ],
)
def test_times(text, seconds):
    assert Times()(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30", "2023-02-29", "2024-13-01", "2024-1-1", "01.02.2024", "2024/02/01",
        "2024-02-01T24:00", "2024-02-01T12:60", "2024-02-01T12:00:60", "2024-02-01T", "2024-02-01Z",
        "2024-02-01T12:00 CET", "2024-02-01T12:00+25:00", "2024-W05-1", "10000-01-01", "0000-01-01",
        "\u0662024-02-01", "", "now", "nan", "inf", None, float("nan"), float("inf"), True, [], {},
        "1e999", 10**400,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="the timestamp"):
        Times()(text)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("2024-01-01", 5, "is a number, where those before are each a date without a time zone"),
        ("5", "2024-01-01", "is a date without a time zone, where those before are each a number"),
        ("2024-01-01T10:00Z", "2024-01-01", "without a time zone, where those before"),
    ],
)
def test_times_of_a_column_are_of_one_kind(first, second, told):
    times = Times()
    times(first)
    times(first)
    with pytest.raises(ValueError, match=told):
        times(second)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_timestamps_of_any_unit_are_rounded_once(count, unit):
    column = pa.array([count], pa.timestamp(unit, "Europe/Berlin"))
    table = {"user": pa.array(["u"]), "item": pa.array([1]), "time": column}
    frame = Frame([*table], lambda at: [*table.values()][at])
    found = read_frames({"input": frame}).fields["timestamp"]
    assert found == float(Fraction(count, 1000 ** ["s", "ms", "us", "ns"].index(unit)))


@given(st.integers() | st.text(min_size=1))
def test_ids_are_kept(value):
    assert id_text(value) == str(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(196.0, "196"), (-0.0, "0"), (np.int32(7), "7"), (np.float32(7), "7"), (Decimal("7.00"), "7")],
    ids=repr,
)
def test_whole_numbers_of_any_type_are_ids(value, text):
    assert id_text(value) == text


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), Decimal("nan"), float("inf"), 1.5, 2.0**60, True, b"a", [], {}, ()],
    ids=repr,
)
def test_what_is_no_id(value):
    with pytest.raises(ValueError, match="id"):
        id_text(value)


@pytest.mark.parametrize("value", ["", "x", None, True, "nan", float("inf"), "1e999", 10**400, []])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="the rating"):
        number("rating", value)
