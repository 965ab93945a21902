"""``recbole-hns convert``: its formats, its splits and what it refuses."""

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns import run
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.convert.interactions import Interactions
from recbole_hns.convert.readers import read_sequences
from recbole_hns.convert.split import held_out
from recbole_hns.data import create_dataset


def convert(**given):
    given = {"output": "dataset/new", **given}
    return main(["convert", *(f"--{key}={value}" for key, value in given.items())])


def part(name, dataset="new"):
    """The rows of a part, as tuples of strings."""
    lines = Path(f"dataset/{dataset}/{dataset}.{name}.inter").read_text().splitlines()
    assert lines[0].startswith("user_id:token\titem_id:token")
    return [tuple(line.split("\t")) for line in lines[1:]]


def everything():
    paths = Path("dataset/new").glob("*.inter")
    return [row for path in paths for row in part(path.name.split(".")[1])]


@pytest.fixture
def adjacency(tmp_path):
    """Ids that are not contiguous, a user with two lines, one with one item, one only in test."""
    Path("train.txt").write_text("7 100 5 900\n\n3 5\n9\n7 1 2 5 3\n")
    Path("test.txt").write_text("7 5 4\n42 100\n")
    return {"format": "adjacency", "train": "train.txt", "test": "test.txt"}


def test_adjacency_keeps_its_split(adjacency, capsys):
    assert convert(**adjacency, validation=0) == 0
    seven = [("7", item) for item in ("100", "5", "900", "1", "2", "3")]
    assert part("train") == [*seven[:3], ("3", "5"), *seven[3:]]
    # the pair 7, 5 was trained with
    assert part("test") == [("7", "4"), ("42", "100")]
    assert not Path("dataset/new/new.valid.inter").exists()
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[2:6]] == [
        ["train", "2", "6", "7"],
        ["valid", "0", "0", "0"],
        ["test", "2", "2", "2"],
        ["all", "3", "7", "9"],
    ]
    assert "repeated pairs left out: 2" in out
    assert "users without a training interaction: 1" in out
    assert sorted(path.name for path in Path().iterdir()) == ["dataset", "test.txt", "train.txt"]


def test_validation_comes_out_of_the_training_part(adjacency):
    assert convert(**adjacency, validation=0.25) == 0
    valid = part("valid")
    # of 6 items, 1.5 rounded; of a single one, none
    assert Counter(user for user, _ in valid) == {"7": 2}
    assert len(part("train")) == 5
    assert part("test") == [("7", "4"), ("42", "100")]


def test_windows_line_ends_and_a_byte_order_mark(adjacency):
    convert(**adjacency, validation=0)
    for name in ("train.txt", "test.txt"):
        text = Path(name).read_bytes()
        Path(name).write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert convert(**adjacency, validation=0, output="dataset/windows") == 0
    for name in ("train", "test"):
        assert part(name, "windows") == part(name)


def test_mat_is_split_by_users(capsys):
    dense = np.random.default_rng(0).random((30, 50)) < 0.3
    dense[4] = False
    dense[:, 7] = False
    dense[9] = np.arange(50) == 3
    matrix = scipy.sparse.csc_matrix(dense.astype(float))
    # stored, but no interaction
    matrix.data[0] = 0
    scipy.io.savemat("x.mat", {"data": matrix, "other": [1]})
    assert convert(format="mat", input="x.mat", validation=0) == 0
    rows, columns = matrix.nonzero()
    assert sorted(everything()) == sorted((str(u), str(i)) for u, i in zip(rows, columns))
    number, test = Counter(map(str, rows)), Counter(user for user, _ in part("test"))
    for user, count in number.items():
        assert test[user] == (0 if count == 1 else round(0.2 * count))
    assert part("train") == sorted(part("train"), key=lambda row: tuple(map(int, row)))
    assert capsys.readouterr().out.splitlines()[5].split()[1] == "29"


def test_the_seed_makes_the_split():
    Path("x.csv").write_text("".join(f"{u},{i}\n" for u in range(20) for i in range(10)))
    found = []
    for number, seed in enumerate((1, 1, 2)):
        assert convert(format="csv", input="x.csv", seed=seed, output=f"dataset/d{number}") == 0
        found.append([part(name, f"d{number}") for name in ("train", "valid", "test")])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [",", "\t", ";", " "])
def test_csv_with_any_separator(mark, end):
    rows = [("ann", f"b{i}", "4.5", f"{10**9 + i}") for i in range(8)]
    rows.append(("bob", "b1", "1", "978300760"))
    lines = [mark.join(row) for row in [*rows, rows[0]]]
    lines.insert(3, "")
    Path("x.csv").write_bytes(end.join(lines).encode())
    assert convert(format="csv", input="x.csv") == 0
    assert Path("dataset/new/new.test.inter").read_text().splitlines()[0] == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    )
    found = [(u, i, float(rating), float(time)) for u, i, rating, time in everything()]
    assert sorted(found) == sorted(
        (u, i, float(rating), float(time)) for u, i, rating, time in rows
    )
    assert len(part("test")) == 2
    assert len(part("valid")) == 1


@pytest.mark.parametrize(
    ("header", "row", "fields"),
    [
        ("userId,movieId,rating", "1,{},3", ["rating:float"]),
        ("user_id,item_id,timestamp", "1,{},3", ["timestamp:float"]),
        ("reviewer,product,stars,time", "1,{},3,4", ["rating:float", "timestamp:float"]),
        ("user,item", "1,{}", []),
        (None, "user1,{}", []),
        (None, '"user, 1",{}', []),
    ],
)
def test_csv_header(header, row, fields):
    lines = [*([header] if header else []), *(row.format(i) for i in range(10))]
    Path("x.csv").write_text("\n".join(lines))
    assert convert(format="csv", input="x.csv") == 0
    assert len(everything()) == 10
    head = Path("dataset/new/new.train.inter").read_text().splitlines()[0].split("\t")
    assert head[2:] == fields


#: Header and line of 12, {} being the item's number; the user, rating and time that it says.
PLACED = {
    "exchanged ids": (
        "movieId,userId,rating,timestamp",
        "m{},u1,3,978300760",
        ("u1", 3, 978300760),
    ),
    "exchanged numbers": ("user,item,timestamp,rating", "u1,m{},978300760,3", ("u1", 3, 978300760)),
    "RecBole's": ("item_id:token,user_id:token", "m{},u1", ("u1", None, None)),
    "Amazon": (
        "reviewerID\tasin\toverall\tunixReviewTime",
        "u1\tm{}\t5.0\t1402617600",
        ("u1", 5, 1402617600),
    ),
    "Book-Crossing": ('"User-ID";"ISBN";"Book-Rating"', '"u1";"m{}";"7"', ("u1", 7, None)),
    "Yelp": ("review_id,user_id,business_id,stars,useful", "r{0},u1,m{0},4,2", ("u1", 4, None)),
    "Retailrocket": ("timestamp,visitorid,event,itemid", "14,u1,view,m{}", ("u1", None, 14)),
    "MovieLens 1M": (None, "u1::m{}::3::978300760", ("u1", 3, 978300760)),
    "double colons": ("timestamp::user::item", "5::u1::m{}", ("u1", None, 5)),
}


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("compressed", [False, True])
def test_columns_are_placed_by_their_names(name, compressed):
    header, line, (user, rating, time) = PLACED[name]
    lines = [*([header] if header else []), *(line.format(i) for i in range(12))]
    content = "\n".join(lines).encode()
    Path("x.csv").write_bytes(gzip.compress(content) if compressed else content)
    assert convert(format="csv", input="x.csv") == 0
    fields = [str(float(value)) for value in (rating, time) if value is not None]
    assert sorted(everything()) == sorted((user, f"m{i}", *fields) for i in range(12))
    head = Path("dataset/new/new.train.inter").read_text().splitlines()[0].split("\t")
    names = {"rating:float": rating, "timestamp:float": time}
    assert head[2:] == [field for field, value in names.items() if value is not None]


def test_ids_with_a_colon_are_no_header():
    Path("x.csv").write_text("".join(f"user:1,item:{i}\n" for i in range(12)))
    assert convert(format="csv", input="x.csv") == 0
    assert sorted(everything()) == sorted(("user:1", f"item:{i}") for i in range(12))


def test_columns_of_other_names_are_named(capsys):
    lines = ["wann,wer,was,wie_gut,wo", *(f"{100 + i},u1,m{i},{i},x" for i in range(12))]
    Path("x.csv").write_text("\n".join(lines))
    given = {"user_column": "wer", "item_column": "was", "rating_column": "wie_gut"}
    assert convert(format="csv", input="x.csv", **given, time_column="wann") == 0
    assert sorted(everything()) == sorted(
        ("u1", f"m{i}", f"{i}.0", f"{100 + i}.0") for i in range(12)
    )
    assert "columns left out: wo\n" in capsys.readouterr().out
    assert convert(format="csv", input="x.csv", **given, output="dataset/two") == 0
    assert "columns left out: wann, wo\n" in capsys.readouterr().out


def test_a_name_given_goes_before_a_usual_one():
    lines = ["user_id,item_id,asin", *(f"u1,no{i},m{i}" for i in range(12))]
    Path("x.csv").write_text("\n".join(lines))
    assert convert(format="csv", input="x.csv", item_column="asin") == 0
    assert sorted(everything()) == sorted(("u1", f"m{i}") for i in range(12))


NOT_UNDERSTOOD = {
    "two unknown words": ("foo,bar\n1,2\n3,4", {}, "line 1: of 'foo', 'bar' it is not understood"),
    "words above words": ("foo,bar\nann,b1\nbob,b2", {}, "of 'foo', 'bar' it is not understood"),
    "words with digits": ("col1,col2\n1,2\n3,4", {}, "of 'col1', 'col2' it is not understood"),
    "four words": ("a1,b1,c,d\n1,2,3,4", {}, "of 'a1', 'b1', 'c', 'd' it is not understood"),
    "no item": ("user,werk,rating\n1,2,3", {}, "--item_column=NAME"),
    "no user": ("wer,item\n1,2", {}, "--user_column=NAME"),
    "two items": (
        "user,asin,parent_asin\n1,2,3",
        {},
        "'asin' and 'parent_asin' may each be the item",
    ),
    "two alike": ("user,item,item\n1,2,3", {}, "'item' and 'item' may each be the item"),
    "wrong name": (
        "wer,was\n1,2",
        {"user_column": "Wer"},
        "user_column=Wer: x.csv has the columns wer, was",
    ),
    "name without header": ("1,2\n3,4", {"user_column": "user"}, "user_column=user: x.csv has"),
    "one for two": (
        "user,was\n1,2",
        {"item_column": "user"},
        "line 1: one column is named as two",
    ),
    "time for rating": ("1,2,978300760\n1,3,978300761", {}, "line 1: 978300760 is no rating"),
    "bars": ("user|item\n1|2", {}, "what is read are tabs, commas, semicolons, :: or spaces"),
    "no ratings": ("user,item\n1,2", {"min_rating": 3}, "min_rating=3.0: needs ratings"),
    "no number": ("user,item\n1,2", {"min_rating": "high"}, "min_rating=high: must be"),
    "nothing left": (
        "user,item,rating\n1,2,3",
        {"min_rating": 4},
        "no user has the 3 interactions",
    ),
    "long row": ("user::item\n1::2\n1::2::3", {}, "line 3: 3 columns where the first line has 2"),
}


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_refused(name, capsys):
    content, given, message = NOT_UNDERSTOOD[name]
    Path("x.csv").write_text(content)
    assert convert(format="csv", input="x.csv", **given) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("dataset").exists()


def test_low_ratings_are_left_out_before_repeats(capsys):
    lines = [f"u1,m{i},{i % 5 + 1}" for i in range(20)]
    Path("x.csv").write_text("\n".join(["user,item,rating", "u1,m2,2", *lines]))
    assert convert(format="csv", input="x.csv", min_rating=3.5) == 0
    assert sorted(everything()) == sorted(
        ("u1", f"m{i}", f"{i % 5 + 1}.0") for i in range(20) if i % 5 >= 3
    )
    out = capsys.readouterr().out
    assert "interactions with a rating below 3.5 left out: 13\n" in out
    assert "repeated" not in out


def test_options_of_csv_are_for_csv(adjacency, capsys):
    for options in ({"user_column": "u"}, {"min_rating": 3}):
        assert convert(**adjacency, **options) == 2
        assert "is for format=csv" in capsys.readouterr().err


def test_compressed_adjacency(adjacency):
    assert convert(**adjacency) == 0
    before = [part(name) for name in ("train", "valid", "test")]
    for name in ("train.txt", "test.txt"):
        Path(name).write_bytes(gzip.compress(Path(name).read_bytes()))
    assert convert(**adjacency, output="dataset/again") == 0
    assert [part(name, "again") for name in ("train", "valid", "test")] == before


def write_parts(**contents):
    """A file NAME.tsv for each part; the options that name them."""
    for name, content in contents.items():
        data = content if isinstance(content, bytes) else content.encode()
        Path(f"{name}.tsv").write_bytes(data)
    return {"format": "csv", **{name: f"{name}.tsv" for name in contents}}


def in_lines(header, rows, mark="\t"):
    return "\n".join([*([header] if header else []), *(mark.join(map(str, row)) for row in rows)])


@pytest.mark.parametrize("compressed", [False, True])
def test_sequences_keep_their_order_and_what_is_there_twice(compressed, capsys):
    text = b"7 5 3 5 9\n12 1 2\n\n30 4\n7 3 1\n"
    Path("lines").write_bytes(gzip.compress(text) if compressed else text)
    assert convert(format="sequence", input="lines") == 0
    # the second line of 7 goes on where the first one ended
    assert part("train") == [
        *(("7", item, f"{place}.0") for place, item in enumerate("5359", start=1)),
        ("12", "1", "1.0"),
        ("30", "4", "1.0"),
    ]
    assert part("valid") == [("7", "3", "5.0")]
    assert part("test") == [("12", "2", "2.0"), ("7", "1", "6.0")]
    out = capsys.readouterr().out
    assert "split: leave-last, the last interaction of each user is the test part, the" in out
    assert "repeated" not in out


def test_sequences_without_a_validation_part():
    Path("lines").write_text("1 5 3 9\n")
    assert convert(format="sequence", input="lines", validation=0) == 0
    assert part("train") == [("1", "5", "1.0"), ("1", "3", "2.0")]
    assert part("test") == [("1", "9", "3.0")]
    assert not Path("dataset/new/new.valid.inter").exists()


@given(lines=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=8))
def test_positions_are_counted_user_by_user(lines):
    lines = [[0, 1], *lines]
    Path("lines").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    found = read_sequences("lines")
    expected, count = [], Counter()
    for user, *items in lines:
        for item in items:
            count[user] += 1
            expected.append((user, item, count[user]))
    users, items = (np.array(ids) for ids in (found.user_ids, found.item_ids))
    rows = zip(users[found.user], items[found.item], found.fields["timestamp"], strict=True)
    assert list(rows) == expected


@pytest.fixture
def benchmark_files():
    """The form of IR-Benchmark: a header, numbers, a test item and a test user not trained with."""
    header = "user_procid\titem_procid"
    train = [(u, (7 * u + i) % 50) for u in range(8) for i in range(20 - u)]
    test = [(u, 50 + i % 3) for u in range(9) for i in range(3)]
    return train, test, write_parts(train=in_lines(header, train), test=in_lines(header, test))


def strings(rows):
    return [tuple(map(str, row)) for row in rows]


def test_csv_keeps_a_split_that_is_ready(benchmark_files, capsys):
    train, test, given = benchmark_files
    assert convert(**given) == 0
    assert part("test") == strings(test)
    trained, valid = part("train"), part("valid")
    assert sorted(trained + valid) == sorted(strings(train))
    assert trained == [row for row in strings(train) if row in set(trained)]
    found, counts = Counter(u for u, _ in valid), Counter(str(u) for u, _ in train)
    # a tenth of each user's training part, rounded down, but at least one
    assert found == {user: max(int(0.1 * count), 1) for user, count in counts.items()}
    out = capsys.readouterr().out
    assert "columns read: user_procid as user, item_procid as item\n" in out
    assert "users without a training interaction: 1\n" in out
    assert "items without a training interaction: 3\n" in out


def test_ready_splits_of_csv_and_adjacency_are_the_same(benchmark_files):
    train, test, given = benchmark_files
    assert convert(**given, validation=0) == 0
    for name, rows in (("train", train), ("test", test)):
        Path(f"{name}.txt").write_text(in_lines(None, rows, " "))
    adjacency = {"format": "adjacency", "train": "train.txt", "test": "test.txt"}
    assert convert(**adjacency, output="dataset/lines", validation=0) == 0
    for name in ("train", "test"):
        assert part(name, "lines") == part(name)


@pytest.mark.parametrize("format_", ["csv", "adjacency"])
def test_a_ready_split_of_three_parts(format_, capsys):
    rows = {
        "train": [("1", "5"), ("1", "6"), ("2", "5"), ("1", "5")],
        "valid": [("1", "6"), ("1", "7"), ("2", "8")],
        "test": [("1", "7"), ("2", "9"), ("2", "5")],
    }
    given = write_parts(**{name: in_lines(None, part_, " ") for name, part_ in rows.items()})
    assert convert(**{**given, "format": format_}) == 0
    # a pair belongs to the first part that has it
    assert part("train") == [("1", "5"), ("1", "6"), ("2", "5")]
    assert part("valid") == [("1", "7"), ("2", "8")]
    assert part("test") == [("2", "9")]
    assert "repeated pairs left out: 4\n" in capsys.readouterr().out


def test_the_columns_of_each_part_are_placed_by_its_own_header():
    train = [("u1", f"i{n}", 5 - n % 2, 100 + n) for n in range(12)]
    test = [(200 + n, "i99", f"u{n}", 4, "x") for n in range(5)]
    given = write_parts(
        train=gzip.compress(in_lines("userId,movieId,rating,time", train, ",").encode()),
        test=in_lines("ts;item;user;stars;note", test, ";"),
    )
    assert convert(**given, validation=0) == 0
    assert part("train") == [(u, i, f"{r}.0", f"{t}.0") for u, i, r, t in train]
    assert part("test") == [(u, i, f"{r}.0", f"{t}.0") for t, i, u, r, _ in test]


NAMED_PARTS = {
    "both are given": ("was\twer", {"user_column": "wer", "item_column": "was"}, ("was", "wer")),
    "one is given, the other is left": ("was\twer", {"user_column": "wer"}, ("was", "wer")),
    "one is understood": ("movie\twer", {}, ("movie", "wer")),
    "none is": ("wer\twas", {}, ("was", "wer")),
    "words with digits": ("col1\tcol2", {}, ("col2", "col1")),
}


@pytest.mark.parametrize("name", NAMED_PARTS)
def test_two_columns_of_other_names_in_a_ready_split(name, capsys):
    header, options, (item, user) = NAMED_PARTS[name]
    item_first = header.startswith(item)
    rows = [(i, 1) if item_first else (1, i) for i in range(5)]
    given = write_parts(train=in_lines(header, rows[:3]), test=in_lines(header, rows[3:]))
    assert convert(**given, **options, validation=0) == 0
    assert part("train") == [("1", "0"), ("1", "1"), ("1", "2")]
    assert part("test") == [("1", "3"), ("1", "4")]
    assert f"columns read: {user} as user, {item} as item\n" in capsys.readouterr().out


def test_low_ratings_are_left_out_of_every_part(capsys):
    train = [("u", f"i{n}", n % 5 + 1) for n in range(20)]
    test = [("u", f"j{n}", n % 5 + 1) for n in range(10)]
    header = "user\titem\trating"
    given = write_parts(train=in_lines(header, train), test=in_lines(header, test))
    assert convert(**given, min_rating=4, validation=0) == 0
    assert part("train") == [(u, i, f"{r}.0") for u, i, r in train if r >= 4]
    assert part("test") == [(u, i, f"{r}.0") for u, i, r in test if r >= 4]
    assert "interactions with a rating below 4 left out: 18\n" in capsys.readouterr().out


PARTS_REFUSED = {
    "empty": ({"train": "wer\twas\n1\t2", "test": "\n"}, {}, "test=test.tsv: holds no"),
    "header only": ({"train": "user\titem", "test": "user\titem\n1\t2"}, {}, "train=train.tsv: h"),
    "no header in test": (
        {"train": "user_procid\titem_procid\n1\t2", "test": "1\t3"},
        {},
        "test=test.tsv: has no header, which train.tsv has",
    ),
    "no header in train": (
        {"train": "1\t2", "test": "user\titem\n1\t3"},
        {},
        "test=test.tsv: has a header, and train.tsv has none",
    ),
    "fewer columns": (
        {"train": "user\titem\trating\n1\t2\t3", "test": "user\titem\n1\t3"},
        {},
        "test=test.tsv: has user, item where train.tsv has user, item, rating",
    ),
    "other names": (
        {"train": "wer\twas\n1\t2", "test": "wen\twas\n1\t3"},
        {},
        "train=train.tsv: line 1: of 'wer', 'was' it is not understood",
    ),
    "three columns": (
        {"train": "wer\twas\two\n1\t2\t3", "test": "wer\twas\two\n1\t3\t3"},
        {},
        "train=train.tsv: line 1: of 'wer', 'was', 'wo' it is not understood",
    ),
    "no item": (
        {"train": "user\trating\n1\t2", "test": "user\trating\n1\t3"},
        {},
        "train=train.tsv: line 1: of 'user', 'rating' it is not understood",
    ),
    "a name that test lacks": (
        {"train": "wer\titem\n1\t2", "test": "user\titem\n1\t3"},
        {"user_column": "wer"},
        "user_column=wer: test.tsv has the columns user, item",
    ),
    "one for two": (
        {"train": "a\tb\n1\t2", "test": "a\tb\n1\t3"},
        {"user_column": "a", "item_column": "a"},
        "train=train.tsv: line 1: one column is named as two",
    ),
    "trained with": (
        {"train": "1\t2\n1\t3", "test": "1\t3"},
        {},
        "test=test.tsv: has no pair that was not trained with",
    ),
    "validated by": (
        {"train": "1\t2", "valid": "1\t3", "test": "1\t2\n1\t3"},
        {},
        "test=test.tsv: has no pair that was not trained with or validated by",
    ),
    "valid trained with": (
        {"train": "1\t2", "valid": "1\t2", "test": "1\t3"},
        {},
        "valid=valid.tsv: has no pair that was not trained with",
    ),
    "low in training": (
        {"train": "1\t2\t3", "test": "1\t3\t5"},
        {"min_rating": 4},
        "train=train.tsv: has no pair with a rating of 4 or more",
    ),
    "few to validate": ({"train": "1\t2", "test": "1\t3"}, {}, "validation=0.1: no user has so"),
    "malformed": (
        {"train": "user,item\n1,2", "test": "user,item\n1,2\n1,,3"},
        {},
        "test=test.tsv: line 3: 3 columns where the first line has 2",
    ),
}


@pytest.mark.parametrize("name", PARTS_REFUSED)
def test_parts_that_are_refused(name, capsys):
    contents, options, message = PARTS_REFUSED[name]
    assert convert(**write_parts(**contents), **options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("dataset").exists()


def test_odd_ids_are_read_as_they_were_written():
    ids = ["NA", "null", "nan", "None", 'a"b', '"c"', "d,e", "N/A", "#NA", "007", "1e5", "'"]
    with open("x.csv", "w", newline="") as file:
        csv.writer(file).writerows([("user", "item"), *((u, i) for u in ids for i in ids)])
    assert convert(format="csv", input="x.csv") == 0
    assert sorted(everything()) == sorted((u, i) for u in ids for i in ids)
    dataset = create_dataset(Config(config_dict={**QUIET, "dataset": "new"}))
    for field in ("user_id", "item_id"):
        assert sorted(dataset.field2id_token[field][1:]) == sorted(ids)
    assert len(dataset) == len(ids) ** 2


MISTAKES = {
    "no format": ({}, "--format: is needed, one of adjacency, sequence, mat, csv"),
    "odd format": ({"format": "xml"}, "format=xml: must be adjacency or sequence or mat"),
    "no output": (
        {"format": "csv", "input": "x", "output": ""},
        "--output: is needed, such as --output=dataset/NAME",
    ),
    "no test": ({"format": "adjacency", "train": "x"}, "is read from --train=FILE and --test=FILE"),
    "test of csv": (
        {"format": "csv", "input": "x", "test": "y"},
        "test=y: format=csv is read from --input=FILE, or from --train=FILE and --test=FILE",
    ),
    "train of csv": ({"format": "csv", "train": "x"}, "--test: is needed; format=csv is read from"),
    "valid of csv": (
        {"format": "csv", "test": "x", "valid": "y"},
        "--train: is needed; format=csv",
    ),
    "all of csv": (
        {"format": "csv", "input": "x", "train": "y", "test": "z"},
        "train=y: format=csv is read from",
    ),
    "nothing": ({"format": "csv"}, "--train: is needed; format=csv is read from --input=FILE"),
    "train of mat": ({"format": "mat", "train": "x"}, "train=x: format=mat is read from --input"),
    "input of adjacency": (
        {"format": "adjacency", "input": "x"},
        "input=x: format=adjacency is read from --train=FILE and --test=FILE",
    ),
    "train of sequence": (
        {"format": "sequence", "train": "x", "test": "y"},
        "train=x: format=sequence is read from --input=FILE",
    ),
    "a column of sequence": (
        {"format": "sequence", "input": "x", "time_column": "t"},
        "time_column=t: is for format=csv, jsonl, parquet",
    ),
    "a split of sequence by draws": (
        {"format": "sequence", "input": "x", "split": "random"},
        "split=random: must be leave-last with format=sequence",
    ),
    "a split of sequence by time": (
        {"format": "sequence", "input": "x", "split": "temporal"},
        "split=temporal: must be leave-last with format=sequence",
    ),
    "validation of sequence": (
        {"format": "sequence", "input": "x", "validation": 0.2},
        "validation=0.2: with split=leave-last it is one interaction of each user",
    ),
    "two validation parts": (
        {"format": "csv", "train": "x", "valid": "y", "test": "z", "validation": 0.2},
        "validation=0.2: leave it out; the validation part is valid=y",
    ),
    "a part that is a directory": (
        {"format": "csv", "train": "full", "test": "full/a"},
        "train=full: cannot be read: Is a directory",
    ),
    "no such part": (
        {"format": "csv", "train": "none", "test": "full/a"},
        "train=none: cannot be read: No such file",
    ),
    "no file": ({"format": "csv", "input": "none"}, "input=none: cannot be read: No such file"),
    "a directory": ({"format": "mat", "input": "."}, "input=.: cannot be read: Is a directory"),
    "all held out": (
        {"format": "csv", "validation": 1},
        "validation=1: must be a number >= 0 and < 1",
    ),
    "seed": ({"format": "csv", "seed": -1}, "seed=-1: must be an integer >= 0"),
    "RecBole's": ({"format": "csv", "input": "x", "output": "ml-100k/"}, "must be named otherwise"),
    "there": ({"format": "csv", "input": "x", "output": "full"}, "output=full: exists already"),
    "a file": (
        {"format": "csv", "input": "x", "output": "full/a"},
        "output=full/a: exists already",
    ),
    "in a file": ({"format": "csv", "input": "x", "output": "full/a/b"}, "that can be created"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_line_and_leaves_nothing(name, capsys):
    Path("full").mkdir()
    Path("full/a").write_text("")
    given, message = MISTAKES[name]
    assert convert(**given) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in Path().rglob("*")) == ["a", "full"]


MALFORMED = {
    "letters": ("adjacency", b"1 2\n3 x\n", "line 2: 'x' is no id"),
    "negative": ("adjacency", b"1 2\n\n3 -4\n", "line 3: '-4' is no id"),
    "no ASCII digit": ("adjacency", "1 2\n3 \u00b2\n".encode(), "line 2: '\u00b2' is no id"),
    "a float": ("adjacency", b"1 2.0\n", "line 1: '2.0' is no id"),
    "underscore": ("adjacency", b"1 2_0\n", "line 1: '2_0' is no id"),
    "commas": ("adjacency", b"1,2\n", "line 1: '1,2' is no id"),
    "long": ("adjacency", b"1 " + b"9" * 5000, "line 1: '99"),
    "no items": ("adjacency", b"1\n\n", "holds no interactions"),
    "trained with": ("adjacency", b"1 2\n", "test=bad: has no pair that was not trained with"),
    "a word in a sequence": ("sequence", b"1 2 3\n2 x 4\n", "input=bad: line 2: 'x' is no id"),
    "an empty sequence": ("sequence", b"1\n\n", "input=bad: holds no interactions"),
    "short sequences": ("sequence", b"1 2\n2 3\n", "no user has the 2 interactions of which one"),
    "short": ("csv", b"a,b,1\nc,d\n", "line 2: 2 columns where the first line has 3"),
    "a column": ("csv", b"a|b\n", "line 1: 1 column without names that tell which are user and"),
    "many": ("csv", b"a,b,1,2,3\n", "line 1: 5 columns without names"),
    "rating": ("csv", b"a,b,1\na,c,good\n", "line 2: the rating 'good' is no number"),
    "not finite": ("csv", b"a,b,1\na,c,nan\n", "line 2: the rating 'nan' is no number"),
    "time": ("csv", b"user,item,time\na,c,\n", "line 2: the timestamp '' is no number"),
    "empty id": ("csv", b"a,b1\n\n ,c\n", "line 3: an id is empty"),
    "not UTF-8": ("csv", b"a,b1\na,\xff\n", "line 2: the id '\\udcff' has characters"),
    "quote": ("csv", b'a,b\n"c,d\ne,f\n', "line 2: unexpected end of data"),
    "blank": ("csv", b"\n \n", "holds no interactions"),
    "header": ("csv", b"user,item\n", "holds no interactions"),
    "few": ("csv", b"a,b1\na,c\n", "no user has the 3 interactions"),
    "few to validate": ("csv", b"a,b1\na,c\na,d\n", "validation=0.1: no user has so many"),
    "no mat": ("mat", b"a,b\n" * 99, "is no MATLAB file"),
    "empty mat": ("mat", b"", "is no MATLAB file"),
    "gzip": (
        "csv",
        gzip.compress(b"user,item\na\n"),
        "line 2: 1 column where the first line has 2",
    ),
    "cut gzip": ("csv", gzip.compress(b"a,b1\n")[:-9], "cannot be read: Compressed file ended"),
    "no gzip": ("adjacency", b"\x1f\x8b1 2", "test=bad: cannot be read: "),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_told_with_its_line(name, capsys):
    format_, content, message = MALFORMED[name]
    Path("bad").write_bytes(content)
    Path("good").write_text("1 2\n")
    both = {"train": "good", "test": "bad"} if format_ == "adjacency" else {"input": "bad"}
    assert convert(format=format_, **both) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in Path().rglob("*")) == ["bad", "good"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ratings": np.eye(3)}, "must hold the matrix data; it holds ratings"),
        ({"data": "text"}, "data must be a matrix of numbers"),
        ({"data": np.ones((2, 2, 2))}, "data must be a matrix of numbers"),
        ({"data": np.zeros((3, 3))}, "holds no interactions"),
    ],
)
def test_other_matlab_files(content, message, capsys):
    scipy.io.savemat("x.mat", content)
    assert convert(format="mat", input="x.mat") == 2
    assert message in capsys.readouterr().err


def test_output_into_an_empty_directory_has_the_usual_permissions(adjacency):
    Path("dataset/new").mkdir(parents=True)
    before = os.umask(0o022)
    try:
        assert convert(**adjacency) == 0
    finally:
        os.umask(before)
    assert Path("dataset/new").stat().st_mode & 0o777 == 0o755
    assert Path("dataset/new/new.train.inter").stat().st_mode & 0o777 == 0o644
    assert not [path for path in Path("dataset").iterdir() if path.name.startswith(".")]


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=40),
    share=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 9),
)
def test_held_out_is_a_share_of_every_user(counts, share, seed):
    counts = np.array(counts)
    user = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    drawn = held_out(user.astype(np.int32), share, np.random.default_rng(seed))
    found = np.bincount(user[drawn], minlength=len(counts))
    rounded = np.floor(share * counts + 0.5)
    assert (found == np.minimum(rounded, np.maximum(counts - 1, 0))).all()


@given(pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=60))
def test_the_first_of_repeats_is_kept(pairs):
    user, item = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    fields = {"rating": np.arange(len(pairs), dtype=float)}
    interactions = Interactions(user, item, range(41), range(6), fields)
    first = list(dict.fromkeys(pairs))
    assert interactions.drop_repeats() == len(pairs) - len(first)
    assert list(zip(interactions.user, interactions.item)) == first
    assert interactions.fields["rating"].tolist() == [pairs.index(pair) for pair in first]


def test_every_interaction_is_as_likely_to_be_held_out():
    user = np.zeros(10, dtype=np.int32)
    random = np.random.default_rng(0)
    times = sum(held_out(user, 0.3, random).astype(int) for _ in range(3000))
    assert times.sum() == 3 * 3000
    assert abs(times - 900).max() < 4 * np.sqrt(3000 * 0.3 * 0.7)


def test_what_was_converted_is_run_by_its_name():
    rng = np.random.default_rng(0)
    lines = [f'"u, {u}",i{i},5' for u in range(30) for i in rng.choice(40, 12, replace=False)]
    Path("x.csv").write_text("\n".join(lines))
    assert convert(format="csv", input="x.csv") == 0
    result = run(dataset="new", config_dict={**QUIET, "epochs": 1})
    assert result["best_valid_result"] != result["test_result"]


def test_help_lists_the_options(capsys):
    assert main(["convert", "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("format", "train", "test", "input", "validation", "seed", "output"):
        assert f"--{option}=" in printed
    assert "tabs, commas, semicolons, :: or spaces" in printed
