"""What is kept of large data files for the next run."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import QUIET
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hns.config import Config
from recbole_hns.data import create_dataset, read_cache, reading
from recbole_hns.data.read_cache import ReadCache

HEADER = ["user_id:token", "item_id:token", "rating:float"]
TYPES = dict(zip(HEADER, (str, str, np.float64), strict=True))
KINDS = dict(zip(HEADER, (pa.string(), pa.string(), pa.float64()), strict=True))
ROWS = [("u1", "i1", "1"), ("", "i2", "-0.0"), ("u1", "é", ""), ("u3", "i1", "0.1")] * 5
DATA, CACHE = Path("dataset/toy/toy.inter"), Path("dataset/toy/toy.inter.cache")


@pytest.fixture(autouse=True)
def _of_any_file(monkeypatch):
    monkeypatch.setattr(read_cache, "SMALLEST", 0)
    monkeypatch.setattr(read_cache, "ROWS", 7)


def write(rows=ROWS, age=60, separator="\t"):
    DATA.parent.mkdir(parents=True, exist_ok=True)
    lines = (separator.join(row) for row in (HEADER, *rows))
    DATA.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    changed = DATA.stat().st_mtime - age
    os.utime(DATA, (changed, changed))


def read(columns=HEADER, separator="\t"):
    config = {"field_separator": separator, "encoding": None, "dataset": "toy"}
    return reading.read_table(str(DATA), config, columns, {c: TYPES[c] for c in columns})


@pytest.fixture
def parsed(monkeypatch):
    """The columns of each time that the file itself was read."""
    calls, parse = [], reading._parse

    def counted(path, separator, kinds):
        calls.append(list(kinds))
        return parse(path, separator, kinds)

    monkeypatch.setattr(reading, "_parse", counted)
    return calls


def assert_same(ours, theirs):
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for column in theirs:
        if reading.in_categories(theirs[column]):
            mine, other = ours[column].array, theirs[column].array
            assert mine.codes.dtype == other.codes.dtype
            assert mine.categories.dtype == other.categories.dtype == object
            assert mine.categories.tolist() == other.categories.tolist()
        else:
            assert ours[column].to_numpy().tobytes() == theirs[column].to_numpy().tobytes()


TOKENS = st.text("abé\"' \u2028", max_size=3) | st.sampled_from(["NA", "nan"])
NUMBERS = st.floats(allow_infinity=False).map(repr) | st.just("")


@settings(max_examples=40)
@given(st.lists(st.tuples(TOKENS, TOKENS, NUMBERS), max_size=40))
def test_what_is_kept_is_what_was_read(rows):
    CACHE.unlink(missing_ok=True)
    write([("u", "", ""), *(row for row in rows if any(row))])
    first = read()
    assert CACHE.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_parse", lambda *_: pytest.fail("it was read anew"))
        assert_same(read(), first)
        columns = HEADER[1:]
        assert_same(read(columns), first[columns])


def test_data_sets_are_the_same_and_may_be_changed(parsed):
    write([*((f"u{n % 7}", f"i{n % 5}", str(n % 3)) for n in range(60)), ("u1", "i1", "")])
    keys = {**QUIET, "dataset": "toy", "load_col": None, "normalize_all": False}
    first, second = (create_dataset(Config(config_dict=keys)) for _ in range(2))
    assert len(parsed) == 1
    pd.testing.assert_frame_equal(second.inter_feat, first.inter_feat, check_exact=True)
    for field, tokens in first.field2id_token.items():
        assert second.field2id_token[field].tolist() == tokens.tolist()
    # the one that was missing was filled in
    assert not second.inter_feat["rating"].isna().any()


def test_other_columns_are_read_and_kept(parsed):
    write()
    read(HEADER[:2])
    read(HEADER)
    read(HEADER[:2])
    read(HEADER[::2])
    assert parsed == [HEADER[:2], HEADER]


def swap():
    """Another file of the same size, set to the same time."""
    before = DATA.stat()
    write([("u9", *row[1:]) if row[0] else row for row in ROWS])
    os.utime(DATA, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch():
    os.utime(DATA)


@pytest.mark.parametrize("change", [swap, touch, lambda: write(ROWS[:3])])
def test_a_file_that_has_changed_is_read_anew(change, parsed):
    write()
    read()
    change()
    found = read()
    assert len(parsed) == 2
    CACHE.unlink()
    assert_same(found, read())


def test_another_separator_is_another_reading(parsed):
    write([(f"{a},1", b, c) for a, b, c in ROWS])
    read()
    write([(f"{a},1", b, c) for a, b, c in ROWS], separator=",")
    with pytest.raises(Exception, match="line 2"):
        read(separator=",")
    assert len(parsed) == 2


@pytest.mark.parametrize("version", [0, 2])
def test_a_cache_of_another_version_is_not_used(version, parsed, monkeypatch):
    write()
    with monkeypatch.context() as patch:
        patch.setattr(read_cache, "VERSION", version)
        read()
    read()
    assert len(parsed) == 2


@pytest.mark.parametrize("said", [5, [], {}, {"rows": "20"}, {"rows": -1}, {"rows": 10**15}])
def test_a_cache_that_says_something_else_of_itself_is_not_used(said, parsed, monkeypatch):
    write()
    dumps = json.dumps
    with monkeypatch.context() as patch:
        stamped = isinstance(said, dict) and said
        patch.setattr(json, "dumps", lambda known: dumps({**known, **said} if stamped else said))
        first = read()
    assert_same(read(), first)
    assert len(parsed) == 2


def test_what_is_damaged_is_read_anew_and_mended(parsed):
    write()
    first = read()
    good = CACHE.read_bytes()
    half = len(good) // 2
    damaged = [good[:end] for end in (0, 1, 4, half, -1)]
    for place in range(0, len(good), 97):
        damaged.append(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    damaged += [good + b"0", b"no cache", good[half:]]
    for number, content in enumerate(damaged):
        CACHE.write_bytes(content)
        assert_same(read(), first)
        assert len(parsed) == number + 2
        assert ReadCache(str(DATA), "\t").load(KINDS)


def test_where_it_cannot_be_written_there_is_none(parsed):
    write()
    CACHE.mkdir()
    assert_same(read(), read())
    assert len(parsed) == 2
    assert sorted(path.name for path in DATA.parent.iterdir()) == ["toy.inter", "toy.inter.cache"]


@pytest.mark.parametrize("age", [0, 1, -60])
def test_a_file_that_was_just_written_is_not_kept(age):
    # another change may leave the time of some file systems as it is
    write(age=age)
    read()
    assert not CACHE.exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(monkeypatch):
    write()
    parse = reading._parse

    def changing(*args):
        found = parse(*args)
        with DATA.open("a") as file:
            file.write("u1\ti9\t1\n")
        return found

    monkeypatch.setattr(reading, "_parse", changing)
    read()
    assert not CACHE.exists()


def test_small_files_are_not_kept(monkeypatch):
    write()
    monkeypatch.setattr(read_cache, "SMALLEST", DATA.stat().st_size + 1)
    read()
    assert not CACHE.exists()


def test_several_may_write_and_read_at_once():
    write()
    first, wrong = read(), []
    columns = {column: first[column].array for column in HEADER[:2]}
    columns[HEADER[2]] = first[HEADER[2]].to_numpy()

    def work():
        try:
            for _ in range(15):
                cache = ReadCache(str(DATA), "\t")
                cache.keep(columns)
                assert_same(pd.DataFrame(cache.load(KINDS)), first)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(path.name for path in DATA.parent.iterdir()) == ["toy.inter", "toy.inter.cache"]
