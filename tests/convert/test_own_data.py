"""A user's own data: files by their suffix, data frames, names of columns, times and ids."""

import gzip
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from recbole_hns.cli import main
from recbole_hns.convert import convert
from recbole_hns.errors import UserError

#: Customers, products and days.
ROWS = [
    (f"c{u}", f"p{i}", (date(2024, 1, 1) + timedelta(days=7 * u + i)).isoformat())
    for u in range(12)
    for i in range(u, u + 9)
]
FRAME = pd.DataFrame(ROWS, columns=["customer", "product", "when"])


def seconds(day):
    return float((date.fromisoformat(day) - date(1970, 1, 1)).days * 86400)


def files(folder):
    """The names of the files of a data set and what they hold."""
    return {path.name.split(".", 1)[1]: path.read_text() for path in Path(folder).glob("*.inter")}


def rows(folder):
    """The rows of all parts."""
    texts = files(folder).values()
    return sorted(tuple(line.split("\t")) for text in texts for line in text.splitlines()[1:])


def write(path, frame=FRAME):
    """Write a frame in the format that the suffix tells."""
    text = ".csv" in path or ".tsv" in path
    if path.endswith(".parquet"):
        frame.to_parquet(path)
    elif text:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path else ",")
    else:
        lines = [json.dumps(dict(zip(frame, row))) for row in frame.itertuples(index=False)]
        content = "\n".join(lines).encode()
        Path(path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)
    return path


SUFFIXES = ["csv", "csv.gz", "tsv", "tsv.gz", "jsonl", "jsonl.gz", "ndjson", "parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_files(suffix, capsys):
    assert main(["convert", f"--input={write(f'x.{suffix}')}", "--output=dataset/a"]) == 0
    out = capsys.readouterr().out
    assert "columns read: customer as user, product as item, when as timestamp\n" in out
    assert rows("dataset/a") == sorted((c, p, str(seconds(day))) for c, p, day in ROWS)
    report = convert(FRAME, "dataset/b")
    assert files("dataset/a") == files("dataset/b")
    assert out == str(report).replace("dataset/b", "dataset/a").replace(" b.", " a.") + "\n"
    assert report.path == Path("dataset/b")
    assert report.counts["all"] == (12, 20, 108)
    assert report.counts["test"][2] == 24


def test_an_atomic_file_of_recbole_is_read_by_its_suffix():
    lines = [f"{c}\t{p}\t{seconds(day)}" for c, p, day in ROWS]
    head = "user_id:token\titem_id:token\ttimestamp:float"
    Path("x.inter").write_text("\n".join([head, *lines]) + "\n")
    report = convert("x.inter", "a", split="temporal")
    assert report.counts == convert(FRAME, "b", split="temporal").counts
    assert files("a") == files("b")


def typed():
    """The same in frames of every kind, and types of columns that mean the same."""
    days = [date.fromisoformat(day) for day in FRAME["when"]]
    times = [datetime(each.year, each.month, each.day) for each in days]
    zone = timezone(timedelta(hours=2))
    aware = [each.replace(tzinfo=timezone.utc).astimezone(zone) for each in times]
    users, items = FRAME["customer"].tolist(), FRAME["product"].tolist()
    table = pa.table({"customer": users, "product": items})
    yield "pandas", FRAME
    yield "pandas, another index", FRAME.set_index(np.arange(len(FRAME))[::-1] * 2)
    for kind in ("datetime64[s]", "datetime64[ns]"):
        yield f"pandas, {kind}", FRAME.astype({"when": kind})
    yield "pandas, aware", FRAME.assign(when=pd.to_datetime(FRAME["when"], utc=True))
    yield "pandas, objects", FRAME.assign(when=pd.Series(days, dtype=object))
    yield "pandas, categories", FRAME.astype({"customer": "category", "product": "category"})
    yield "pandas, strings", FRAME.astype("string")
    yield "pandas, numbers", FRAME.assign(when=[seconds(day) for day in FRAME["when"]])
    yield "pandas, integers", FRAME.assign(when=[int(seconds(day)) for day in FRAME["when"]])
    yield "polars", pl.DataFrame(ROWS, schema=["customer", "product", "when"], orient="row")
    yield "polars, times", pl.DataFrame({"customer": users, "product": items, "when": aware})
    yield (
        "polars, categories",
        pl.DataFrame(
            {"customer": pl.Series(users, dtype=pl.Categorical), "product": items, "when": days}
        ),
    )
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array(times, pa.timestamp(unit))
        yield f"pyarrow, {unit}", table.append_column("when", column)
    for kind in (pa.date32(), pa.date64()):
        yield f"pyarrow, {kind}", table.append_column("when", pa.array(days, kind))
    column = pa.array(times, pa.timestamp("s"))
    parts = table.append_column("when", column)
    yield "pyarrow, chunks", pa.concat_tables([parts.slice(0, 50), parts.slice(50)])
    yield "pyarrow, a stream", parts.to_reader()
    views = [pa.array(each, pa.string_view()) for each in (users, items)]
    yield "pyarrow, views", pa.table([*views, column], ["customer", "product", "when"])
    coded = [pa.array(each).dictionary_encode() for each in (users, items)]
    yield "pyarrow, codes", pa.table([*coded, column], ["customer", "product", "when"])


@pytest.mark.parametrize(("name", "frame"), [pytest.param(*each, id=each[0]) for each in typed()])
def test_every_kind_of_frame_gives_the_same_files(name, frame):
    convert(frame, "a")
    convert(FRAME, "b")
    assert files("a") == files("b")


def test_a_folder_of_parquet_files_is_one(tmp_path):
    Path("x.parquet").mkdir()
    write("x.parquet/part-0.parquet", FRAME[:60])
    write("x.parquet/part-1.parquet", FRAME[60:])
    Path("x.parquet/_SUCCESS").touch()
    convert(Path("x.parquet"), Path("a"))
    convert(FRAME, "b")
    assert files("a") == files("b")


@pytest.mark.parametrize("suffix", ["frame", "csv", "jsonl.gz", "parquet"])
def test_a_ready_split_is_kept(suffix):
    given = {"train": FRAME[FRAME.index % 4 > 0], "test": FRAME[FRAME.index % 4 == 0]}
    sources = {
        key: frame if suffix == "frame" else write(f"{key}.{suffix}", frame)
        for key, frame in given.items()
    }
    convert(**sources, output="a")
    if suffix != "frame":
        options = [f"--{key}={path}" for key, path in sources.items()]
        assert main(["convert", *options, "--output=cli"]) == 0
        assert files("a") == files("cli")
    found = files("a")
    test = [line.split("\t")[:2] for line in found["test.inter"].splitlines()[1:]]
    assert test == given["test"][["customer", "product"]].values.tolist()
    # at least one of each user's
    assert found["valid.inter"].count("\n") == 13


def test_ids_that_once_were_floats_are_whole_numbers():
    lines = [f"{u}.0,i{i}" for u in range(3) for i in range(9)]
    Path("x.csv").write_text("\n".join(["user,item", *lines]))
    convert("x.csv", "a")
    assert {user for user, _ in rows("a")} == {"0", "1", "2"}
    # a split whose parts differ in it
    for name, items, end in (("train", range(6), ".0"), ("test", range(6, 9), "")):
        lines = [f"{u}{end},{i}" for u in range(3) for i in items]
        Path(f"{name}.csv").write_text("\n".join(["user,item", *lines]))
    report = convert(train="train.csv", test="test.csv", output="b")
    assert report.counts["all"] == (3, 9, 27)
    # these are no such ids
    lines = [f"{u},1.{i}" for u in "ab" for i in range(9)]
    Path("x.csv").write_text("\n".join(["user,item", *lines]))
    convert("x.csv", "c")
    assert "1.0" in {item for _, item in rows("c")}


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([float(i) for i in range(9)]),
        pd.Series(range(9), dtype="Int64"),
        pd.Series([Decimal(i) for i in range(9)]),
        pd.Series(range(9), dtype="uint8"),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_whole_numbers_are_ids(ids):
    convert(pd.DataFrame({"user": ["u"] * 9, "item": ids}), "a")
    assert {item for _, item in rows("a")} == set("012345678")


COLUMNS = {
    "orders": ("customer,product,when", "uit"),
    "H&M": ("t_dat,customer_id,article_id,price,sales_channel_id", "tui--"),
    "Online Retail": ("InvoiceNo,StockCode,Quantity,InvoiceDate,Customer ID,Country", "-i-tu-"),
    "REES46": ("event_time,event_type,product_id,category_id,brand,price,user_id", "t-i---u"),
    "shop": ("sku,buyer,created_at", "iut"),
    "the usual one goes before": ("user,item,sku,time,date", "ui-t-"),
    "RecBole's": ("user_id:token,item_id:token,rating:float,timestamp:float", "uirt"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_have_usual_names(name, suffix):
    header, kinds = COLUMNS[name]
    values = {"u": "u{}", "i": "i{}", "t": "2024-01-0{} 10:00:00 UTC", "r": "{}", "-": "x{}"}
    table = pd.DataFrame(
        [[values[kind].format(n) for kind in kinds] for n in range(1, 10)],
        columns=header.split(","),
    )
    table.iloc[:, kinds.index("u")] = "u"
    report = convert(write(f"x.{suffix}", table), "a")
    assert len(rows("a")) == 9
    head = files("a")["train.inter"].split("\n")[0]
    assert ("timestamp" in head, "rating" in head) == ("t" in kinds, "r" in kinds)
    left = [column for column, kind in zip(table, kinds) if kind == "-"]
    assert (f"columns left out: {', '.join(left)}" in report.notes) == bool(left)


def test_columns_of_other_names_are_given():
    frame = FRAME.rename(columns={"customer": "wer", "product": "was", "when": "wann"})
    frame["wie"] = range(len(frame))
    names = {"user_column": "wer", "item_column": "was", "time_column": "wann"}
    report = convert(frame, "a", **names, rating_column="wie", min_rating=8)
    assert report.notes[1] == "interactions with a rating below 8 left out: 8"
    assert len(rows("a")) == 100
    convert(frame.drop(columns="wie"), "b", **names)
    convert(FRAME, "c")
    assert files("b") == files("c")


# --- mistakes -------------------------------------------------------------------------------------

ONE = {"user": ["u"] * 4, "item": list("abcd")}


def other(**columns):
    return pd.DataFrame({**ONE, **columns})


FRAMES = {
    "no columns": (pd.DataFrame(), "input=the frame: has no columns"),
    "no rows": (FRAME[:0], "input=the frame: holds no interactions"),
    "unknown names": (
        FRAME.rename(columns={"customer": "wer", "product": "was"}),
        "of 'wer', 'was', 'when' it is not understood which are user and item; name them with "
        "user_column=NAME and item_column=NAME",
    ),
    "no user": (
        FRAME.rename(columns={"customer": "wer"}),
        "of 'wer', 'product', 'when' it is not understood which is user; name it with "
        "user_column=NAME",
    ),
    "two items": (
        other(uid="x"),
        "'user' and 'uid' may each be the user; name one with user_column=NAME; the columns are "
        "user, item, uid",
    ),
    "twice": (
        pd.DataFrame([[1, 2, 3]], columns=["user", "item", "item"]),
        "'item' and 'item' may each be the item",
    ),
    "missing": (other(user=["u", None, "u", "u"]), "column 'user', row 1 (counted from 0): an id"),
    "not a number": (other(user=[1, 2, np.nan, 1]), "column 'user', row 2 (counted from 0): an id"),
    "empty": (other(item=["a", "b", "c", ""]), "column 'item', row 3 (counted from 0): an id is"),
    "tab": (other(item=["a\t", "b", "c", ""]), "column 'item', row 0 (counted from 0): the id"),
    "half": (other(user=[1, 2, 1.5, 1]), "row 2 (counted from 0): 1.5 is no id"),
    "rounded": (other(user=[1, 2, 2.0**60, 1]), "row 2 (counted from 0): the id 1.1529215046068"),
    "booleans": (other(user=True), "row 0 (counted from 0): True is no id"),
    "lists": (other(user=[[1]] * 4), "column 'user' has the type list<item: int64>; ids are text"),
    "days": (other(user=[date(2024, 1, 1)] * 4), "row 0 (counted from 0): datetime.date(2024, 1"),
    "types": (other(user=["u", 1, "u", "u"]), "column 'user': holds values that are not of one"),
    "surrogate": (
        other(user=pd.Series(["u", "\udc00", "u", "u"], dtype=object)),
        "column 'user': holds values that",
    ),
    "no time": (other(time=[1, 2, np.nan, 3]), "column 'time', row 2 (counted from 0): the time"),
    "NaT": (other(time=pd.to_datetime([None, *["2024-01-01"] * 3])), "row 0 (counted from 0)"),
    "endless": (other(time=[1, 2, np.inf, 3]), "row 2 (counted from 0): the timestamp inf is no"),
    "mixed": (other(time=["2024-01-01", "5", "6", "7"]), "row 1 (counted from 0): the timestamp"),
    "spans": (other(time=pd.to_timedelta(["1d"] * 4)), "column 'time' has the type duration["),
    "periods": (other(time=pd.period_range("2024", "2027", freq="Y")), "has the type extension<"),
    "ratings": (other(rating=["1", "2", "good", "3"]), "row 2 (counted from 0): the rating 'good'"),
    "flags": (other(rating=True), "column 'rating' has the type bool; ratings are numbers"),
    "bytes": (pa.table({**ONE, "user": [b"\xff"] * 4}), "column 'user': Invalid UTF8"),
    "structs": (pa.table({**ONE, "user": [{"a": 1}] * 4}), "has the type struct<a: int64>; ids"),
    "lazy": (pl.DataFrame(ONE).lazy(), "input=LazyFrame: must be a path or a data frame of pandas"),
    "an array": (np.ones(1), "input=ndarray: must be a path or a data frame of pandas, Polars"),
    "a list": ([1, 2], "input=list: must be a path or a data frame of pandas, Polars (collected)"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_are_refused(name):
    frame, told = FRAMES[name]
    with pytest.raises(UserError) as caught:
        convert(frame, "a")
    assert told in str(caught.value)
    assert not list(Path().iterdir())


ARGUMENTS = {
    "user": ({"user_column": "wer"}, "user_column=wer: the frame has the columns customer, produc"),
    "rating": ({"min_rating": 3}, "min_rating=3.0: needs ratings"),
    "seed": ({"seed": -1}, "seed=-1: must be an integer >= 0"),
    "share": ({"validation": 1.0}, "validation=1.0: must be a number >= 0 and < 1"),
    "format": ({"format": "csv"}, "format=csv: is of files, and input is a data frame"),
    "no output": ({"output": None}, "--output: is needed"),
    "both": ({"train": FRAME, "test": FRAME}, "train=DataFrame: data frames are given as input"),
    "no test": ({"input": None, "train": FRAME}, "--test: is needed"),
    "another": (
        {"input": None, "train": FRAME, "test": "x.csv"},
        "train=DataFrame: must be a path",
    ),
    "nothing": (
        {"input": None},
        "--format: is needed, one of adjacency, sequence, mat, csv, jsonl, parquet",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_are_refused(name):
    given, told = ARGUMENTS[name]
    with pytest.raises(UserError) as caught:
        convert(**{"input": FRAME, "output": "a", **given})
    assert told in str(caught.value)
    assert not list(Path().iterdir())


LINES = {
    "csv": b"user,item,when\nu,a,2024-01-01\nu,b,%s\n",
    "jsonl": b'{"user": "u", "item": 1, "when": "2024-01-01"}\n{"user": "u", "item": 2, %s}\n',
}
FILES = {
    "a number": ("csv", LINES["csv"] % b"17", "line 3: the timestamp '17' is a number, where thos"),
    "no day": ("csv", LINES["csv"] % b"2024-02-30", "line 3: the timestamp '2024-02-30' is no num"),
    "no ISO": ("csv", LINES["csv"] % b"01.02.2024", "and no date such as 2024-05-31 or 2024-05-31"),
    "many names": ("csv", b"a,b,c,d,e,f\n1,2,3,4,5,x6", "line 1: of 'a', 'b', 'c', 'd', 'e', 'f'"),
    "no header": ("csv", b"u1,i1,2024-01-01\nu1,i2,2024-01-02", "line 1: 2024-01-01 is no rating"),
    "no JSON": ("jsonl", LINES["jsonl"] % b"", "line 2: is no JSON: "),
    "a list": ("jsonl", b"[1, 2]\n", "line 1: is no JSON object, such as {"),
    "a document": ("jsonl", b'[\n{"user": 1, "item": 2}\n]', "line 1: is no JSON: "),
    "deep": ("jsonl", b"[" * 10**5, "line 1: is no JSON: "),
    "an endless number": ("jsonl", b'{"user": ' + b"9" * 5000, "line 1: is no JSON: "),
    "no time": ("jsonl", LINES["jsonl"] % b'"x": 1', "line 2: the timestamp is missing"),
    "null": ("jsonl", LINES["jsonl"] % b'"when": null', "line 2: the timestamp is missing"),
    "a date": ("jsonl", LINES["jsonl"] % b'"when": 5', "line 2: the timestamp 5 is a number, wh"),
    "NaN": ("jsonl", b'{"user": NaN, "item": 2}', "line 1: an id is missing"),
    "a flag": ("jsonl", b'{"user": true, "item": 2}', "line 1: True is no id"),
    "nested": ("jsonl", b'{"user": {"id": 1}, "item": 2}', "line 1: {'id': 1} is no id, which"),
    "surrogate": ("jsonl", b'{"user": "\\ud800", "item": 2}', "line 1: the id '\\ud800' has char"),
    "bytes": ("jsonl", b'{"user": "\xff", "item": 2}', "line 1: the id '\\udcff' has characters"),
    "unknown": ("jsonl", b'{"wer": 1, "was": 2}', "line 1: of 'wer', 'was' it is not understood"),
    "nothing": ("jsonl", b"{}", "line 1: has no columns"),
    "blank": ("jsonl", b"\n\n", "holds no interactions"),
    "late": (
        "jsonl",
        b'{"user": 1, "item": 2}\n{"user": 1, "item": 2, "stars": 3}',
        "line 2: has the rating 'stars', which line 1 has not",
    ),
    "no parquet": ("parquet", b"PAR1", "input=x.parquet: cannot be read: "),
    "an empty one": ("parquet", b"", "input=x.parquet: cannot be read: "),
    "cut gzip": ("jsonl", gzip.compress(b'{"user": 1}')[:-9], "cannot be read: Compressed file"),
    "suffix": ("txt", b"1 2", "--format: is needed, one of adjacency, sequence, mat, csv, "),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(name, capsys):
    suffix, content, told = FILES[name]
    Path(f"x.{suffix}").write_bytes(content)
    assert main(["convert", f"--input=x.{suffix}", "--output=a"]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == [f"x.{suffix}"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--input=none.parquet"], "input=none.parquet: cannot be read: No such file"),
        (["--input=s3://bucket/x.parquet"], "cannot be read: No such file"),
        (["--train=a.csv", "--test=b.parquet"], "the parts must be of one format"),
        (["--input=a.csv", "--format=frame"], "format=frame: must be "),
    ],
)
def test_paths_that_are_refused(given, told, capsys):
    assert main(["convert", *given, "--output=a"]) == 2
    assert told in capsys.readouterr().err


def test_parts_have_the_same_columns():
    with pytest.raises(UserError, match="has user, item where the frame has user, item, timestamp"):
        convert(train=FRAME, test=FRAME.drop(columns="when"), output="a")


def test_json_of_a_key_that_is_not_needed_may_come_and_go():
    lines = [{"user": 1, "item": i, **({"note": "x"} if i % 2 else {"n": 1})} for i in range(9)]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    convert("x.jsonl", "a")
    assert len(rows("a")) == 9


def test_dates_without_a_header():
    lines = [f"u1,i{n},4,2024-01-0{n}T10:00Z" for n in range(1, 10)]
    Path("x.csv").write_text("\n".join(lines))
    convert("x.csv", "a")
    assert ("u1", "i9", "4.0", "1704794400.0") in rows("a")


def test_a_broken_page_of_parquet_is_told():
    content = bytearray(Path(write("x.parquet")).read_bytes())
    content[4:200] = bytes(196)
    Path("x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"input=x.parquet: "):
        convert("x.parquet", "a")
    assert not Path("a").exists()
