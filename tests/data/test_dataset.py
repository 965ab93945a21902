"""Data as its files have it: rows, ids, columns and times, against a literal reading of them."""

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUIET
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset as RecBoleDataset
from recbole.utils import FeatureSource, FeatureType, init_seed

from recbole_hns import run
from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation, reading
from recbole_hns.data.dataset import Dataset, token_digest
from recbole_hns.data.split import split
from recbole_hns.errors import UserError
from recbole_hns.quick_start import load_data_and_model

HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
#: Today's; float32 has only every 128th.
NOW = 1_764_000_000
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}

ROWS = [
    (f"u{u}", f"i{(7 * u + 3 * k) % 40}", 1 + (u + k) % 5, NOW + 5 * (7 * k % 12))
    for u in range(20)
    for k in range(12)
]


def write(rows=ROWS, header=HEADER, separator="\t", name="tiny", encoding="utf-8", suffix="inter"):
    """A data file; returns its lines."""
    lines = [separator.join(map(str, row)) for row in (header, *rows)]
    folder = Path("dataset", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.{suffix}").write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return lines


def created(**keys):
    return create_dataset(Config(config_dict={**QUIET, "dataset": "tiny", **keys}))


def parts(**keys):
    """The split as lists of (user, item) by token."""
    config = Config(config_dict={**QUIET, "dataset": "tiny", **keys})
    init_seed(config["seed"], True)
    return [tokens(part) for part in split(config, create_dataset(config))]


def tokens(dataset):
    """(user, item) of every row, in order, as tokens."""
    feat = dataset.inter_feat
    return list(
        zip(
            *(
                dataset.field2id_token[field][np.asarray(feat[field])].tolist()
                for field in (dataset.uid_field, dataset.iid_field)
            ),
            strict=True,
        )
    )


# --- times ----------------------------------------------------------------------------------------


def stub(user, times, **eval_args):
    """A data set of these rows, without files; items are the rows' numbers."""
    dataset = Dataset.__new__(Dataset)
    item = np.arange(len(user))
    dataset.config = defaultdict(
        lambda: None,
        eval_args={**LEAVE_ONE_OUT, "group_by": "user", **eval_args},
        numerical_features=[],
    )
    dataset.logger = logging.getLogger()
    dataset.uid_field, dataset.iid_field, dataset.time_field = "user", "item", "time"
    dataset.benchmark_filename_list = None
    dataset.feat_name_list = ["inter_feat"]
    dataset.inter_feat = pd.DataFrame({"user": user, "item": item, "time": times})
    token, number = FeatureType.TOKEN, FeatureType.FLOAT
    dataset.field2type = {"user": token, "item": token, "time": number}
    dataset.field2source = dict.fromkeys(dataset.field2type, FeatureSource.INTERACTION)
    dataset._normalize()
    return dataset


def random_times(rng, size):
    """Times that float32 mixes up, some of them equal."""
    kind = rng.integers(4)
    if kind == 0:
        return NOW + rng.integers(0, 400, size).astype(float)
    if kind == 1:
        return NOW + np.round(rng.random(size), 2)
    if kind == 2:
        return rng.integers(-(2**52), 2**52, size).astype(float)
    return NOW * 1e3 + rng.integers(0, 10**5, size)


def leaves_one_out_as_pandas(seed):
    """One random case; how many of its test items RecBole itself chooses otherwise."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 40))
    user = rng.integers(1, rng.integers(2, 8), size)
    times = random_times(rng, size)
    frame = pd.DataFrame({"user": user, "item": np.arange(size), "time": times})
    ranked = frame.sort_values("time", kind="stable")
    # of the last two of each user, the older validates; a user's only row is trained with
    place = ranked.groupby("user", sort=False).cumcount(ascending=False)
    number = ranked.groupby("user", sort=False)["item"].transform("size")
    is_test = (place == 0) & (number > 1)
    is_valid = (place == 1) & (number > 2)
    dataset = stub(user, times)
    train, valid, test = (part.inter_feat["item"].tolist() for part in dataset.build())
    assert sorted(test) == sorted(ranked["item"][is_test])
    assert sorted(valid) == sorted(ranked["item"][is_valid])
    assert sorted(train) == sorted(ranked["item"][~is_test & ~is_valid])
    # training keeps the order of time within each user
    expected = ranked[~is_test & ~is_valid]
    for one in np.unique(user):
        own = [row for row in train if user[row] == one]
        assert own == expected["item"][expected["user"] == one].tolist()
    dataset = stub(user, times)
    dataset.__class__ = RecBoleDataset
    return len(set(test).difference(dataset.build()[2].inter_feat["item"].tolist()))


def test_leave_one_out_by_time_is_a_sort_in_float64():
    assert sum(map(leaves_one_out_as_pandas, range(300))) > 300


@pytest.mark.parametrize("ratios", [[0.6, 0.2, 0.2], [0.8, 0.1, 0.1]])
@pytest.mark.parametrize("group_by", ["user", "none"])
def test_a_split_by_ratio_in_order_of_time(ratios, group_by):
    rng = np.random.default_rng(3)
    user, times = rng.integers(1, 6, 200), NOW + rng.permutation(200).astype(float)
    dataset = stub(user, times, split={"RS": ratios}, group_by=group_by)
    found = [part.inter_feat["item"].tolist() for part in dataset.build()]
    order = np.argsort(times)
    for group in [order] if group_by == "none" else [order[user[order] == u] for u in range(1, 6)]:
        ends = np.cumsum([len(set(part) & set(group.tolist())) for part in found])
        for part, start, end in zip(found, (0, *ends), ends):
            assert [row for row in part if row in set(group.tolist())] == group[start:end].tolist()
    assert [len(part) for part in found][1:] == pytest.approx([200 * r for r in ratios[1:]], abs=5)


def test_a_split_at_a_point_in_time():
    rng = np.random.default_rng(4)
    user, times = rng.integers(1, 6, 200), NOW + rng.permutation(200).astype(float)
    _, _, test = stub(user, times, split={"TS": [0.8, 0.1, 0.1]}).build()
    boundary = np.percentile(times, 90)
    assert sorted(test.inter_feat["item"].tolist()) == np.flatnonzero(times > boundary).tolist()
    write()
    config = Config(
        config_dict={**QUIET, "dataset": "tiny", "eval_args": {"split": {"TS": [8, 1, 1]}}}
    )
    with pytest.raises(UserError, match=r"^eval_args=.*: split TS needs order TO"):
        data_preparation(config, create_dataset(config))


@pytest.mark.parametrize("order", ["TO", "RO"])
@pytest.mark.parametrize("shares", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}])
def test_where_float32_tells_times_apart_the_split_is_recboles(order, shares):
    rng = np.random.default_rng(5)
    user = rng.integers(1, 9, 300)
    times = rng.integers(0, 2**20, 300).astype(float)  # with repeats
    found = []
    for kind in (Dataset, RecBoleDataset):
        dataset = stub(user, times, split=shares, order=order)
        dataset.__class__ = kind
        torch.manual_seed(0)
        found.append([part.inter_feat.interaction for part in dataset.build()])
    for ours, theirs in zip(*found, strict=True):
        assert list(ours) == list(theirs) == ["user", "item", "time"]
        for field, values in theirs.items():
            assert ours[field].dtype == values.dtype
            assert ours[field].equal(values)


SPLITS = [
    {"split": {"LS": "valid_and_test"}},
    {"split": {"LS": "valid_only"}},
    {"split": {"LS": "test_only"}},
    {"split": {"RS": [0.8, 0.1, 0.1]}},
    {"split": {"RS": [3, 1, 1]}},
    {"split": {"RS": [0.6, 0.4]}},
    {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
    {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO"},
    {"split": {"TS": [0.5, 0.3, 0.2]}, "order": "TO"},
]


@pytest.mark.parametrize("eval_args", SPLITS, ids=str)
def test_every_split_is_recboles(eval_args):
    rng = np.random.default_rng(6)
    for users in (3, 40, 200):
        # with users of one and two interactions
        user = rng.permutation(np.append(np.arange(1, users), rng.integers(1, users, 150)))
        times = rng.integers(0, 300, len(user)).astype(float)
        found = []
        for kind in (Dataset, RecBoleDataset):
            dataset = stub(user, times, **{"order": "RO", **eval_args})
            dataset.__class__ = kind
            torch.manual_seed(0)
            found.append([part.inter_feat.interaction for part in dataset.build()])
        for ours, theirs in zip(*found, strict=True):
            assert list(ours) == list(theirs)
            for field, values in theirs.items():
                assert ours[field].dtype == values.dtype
                assert ours[field].equal(values)


def test_the_newest_of_every_user_is_tested_and_the_log_says_where_recbole_differs(caplog):
    caplog.set_level(logging.INFO)
    write()
    newest = {u: max((t, i) for v, i, _, t in ROWS if u == v)[1] for u, *_ in ROWS}
    keys = {"eval_args": LEAVE_ONE_OUT}
    assert dict(parts(**keys)[2]) == newest
    (told,) = [record.getMessage() for record in caplog.records if "as read" in record.getMessage()]
    assert told.endswith(
        "interactions stand elsewhere than in RecBole, which rounds it to float32 first"
    )
    # normalised, all times but the last would be one
    write([*ROWS[:-1], (*ROWS[-1][:3], 1e30)])
    newest["u19"] = ROWS[-1][1]
    assert dict(parts(**keys, normalize_all=True)[2]) == newest
    # the models' feature is RecBole's
    dataset = created(**keys, normalize_all=True)
    feature = dataset.build()[0].inter_feat["timestamp"]
    assert feature.dtype == torch.float32
    assert feature.max() <= 1


def test_an_interval_of_times_is_that_of_the_file():
    write()
    keys = {"val_interval": {"timestamp": f"[{NOW + 5},{NOW + 20})"}}
    assert tokens(created(**keys)) == [(u, i) for u, i, _, t in ROWS if NOW + 5 <= t < NOW + 20]


def test_times_may_be_numerical_features():
    write()
    keys = {"eval_args": LEAVE_ONE_OUT}
    assert parts(**keys, numerical_features=["timestamp"]) == parts(**keys)


def test_the_column_of_times_may_be_unused():
    write()
    config = Config(
        config_dict={
            **QUIET,
            "dataset": "tiny",
            "eval_args": LEAVE_ONE_OUT,
            "unused_col": {"inter": ["timestamp"]},
        }
    )
    found = split(config, create_dataset(config))
    assert [list(part.inter_feat) for part in found] == 3 * [["user_id", "item_id"]]
    assert [tokens(part) for part in found] == parts(eval_args=LEAVE_ONE_OUT)


def test_a_saved_data_set_is_ordered_as_its_times_were_read():
    write()
    Path("saved").mkdir()
    keys = {"eval_args": LEAVE_ONE_OUT}
    expected = parts(**keys, save_dataset=True)
    assert parts(**keys, dataset_save_path="saved/tiny-Dataset.pth") == expected
    # one that RecBole saved has none
    dataset = created(**keys)
    dataset.times, dataset.__class__ = None, RecBoleDataset
    dataset.save()
    assert parts(**keys, dataset_save_path="saved/tiny-Dataset.pth") == expected
    # it is split as this run says, not the one that saved it
    other = {"eval_args": {**LEAVE_ONE_OUT, "split": {"LS": "test_only"}}, "protocol": "paper"}
    path = {"dataset_save_path": "saved/tiny-Dataset.pth"}
    assert parts(**other, **path) == parts(**other)


# --- rows and ids ---------------------------------------------------------------------------------


def literal(lines, separator="\t"):
    """(user, item) of every line but the first."""
    return [tuple(line.split(separator)[:2]) for line in lines[1:]]


READ = {
    "plain": {},
    "byte order mark": {"encoding": "utf-8-sig"},
    "commas": {"separator": ","},
    "double colons": {"separator": "::"},
    "bars": {"separator": "||"},
    "quotes that do not end": {"rows": [(u, f'"{i}', r, t) for u, i, r, t in ROWS]},
    "quotes": {"rows": [(f'"{u}"', i, r, t) for u, i, r, t in ROWS]},
    "missing values": {
        "rows": [
            ({"u1": "NA", "u2": "null", "u3": "nan"}.get(u, u), {"i4": "NULL"}.get(i, i), r, t)
            for u, i, r, t in ROWS
        ]
    },
    "numbers": {"rows": [(u.replace("u", "00"), f"{i[1:]}e5", r, t) for u, i, r, t in ROWS]},
    "latin": {"rows": [(f"ü{u}", i, r, t) for u, i, r, t in ROWS], "encoding": "latin-1"},
    "blank lines": {"rows": [*ROWS[:9], ("",), *ROWS[9:], ("",), ("  ",)]},
    "windows": {"rows": [(*row[:3], f"{row[3]}\r") for row in ROWS]},
}


@pytest.mark.parametrize("name", READ)
def test_every_line_is_a_row_and_every_id_as_it_stands(name):
    how = READ[name]
    lines = [line for line in write(**how) if line.strip()]
    separator = how.get("separator", "\t")
    keys = {"field_separator": separator}
    if "encoding" in how:
        keys["encoding"] = how["encoding"].removesuffix("-sig")
    assert tokens(created(**keys)) == literal(lines, separator)
    # as a ready split, too
    for part in ("train", "valid", "test"):
        write(**how, suffix=f"{part}.inter")
    Path("dataset/tiny/tiny.inter").unlink()
    assert tokens(created(**keys)) == 3 * literal(lines, separator)


def test_a_missing_number_is_the_mean_as_ever():
    write([*ROWS[:-2], ("u1", "i1", "", NOW), ("u1", "i2", "NA", NOW)])
    ratings = created(load_col=None).inter_feat["rating"]
    assert ratings[-2:].tolist() == [ratings[:-2].mean()] * 2


def test_the_item_file_is_read_likewise():
    write()
    header = ["item_id:token", "title:token_seq"]
    write([(f"i{i}", f'"The {i}') for i in range(40)], header, suffix="item")
    keys = {"load_col": {"inter": ["user_id", "item_id"], "item": ["item_id", "title"]}}
    titles = created(**keys).field2id_token["title"]
    assert {'"The', "7"} <= set(titles)
    write([(f"i{i}", "x", "y") for i in range(40)], header, suffix="item")
    with pytest.raises(UserError, match=r"tiny.item, line 2: 3 fields where the first line has 2"):
        created(**keys)


LONG = [(*row, "more") for row in ROWS]
SHORT = [row[:3] for row in ROWS]
BAD_ROWS = {
    "one longer": ([*ROWS[:7], LONG[7], *ROWS[8:]], "line 9: 5 fields where the first line has 4"),
    "the first longer": ([LONG[0], *ROWS[1:]], "line 2: 5 fields"),
    "all longer": (LONG, "line 2: 5 fields where the first line has 4, separated by '\\\\t'$"),
    "one shorter": ([*ROWS[:-1], SHORT[-1]], "line 241: 3 fields where the first line has 4"),
    "one word": ([*ROWS, ("u1",)], "line 242: 1 field where"),
    "a line's end in a field": ([("u\r1", *ROWS[0][1:])], "line 2: 1 field where"),
    "separator in quotes": ([('"u\t1"', *ROWS[0][1:])], "line 2: 5 fields .*quotes being part"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_of_another_length_is_refused_with_its_line(name):
    rows, message = BAD_ROWS[name]
    write(rows)
    with pytest.raises(UserError, match=f"dataset=tiny: .*tiny.inter, {message}"):
        created()


@pytest.mark.parametrize("column", [0, 1])
def test_an_empty_id_of_a_ready_split_is_refused(column):
    for part in ("train", "valid", "test"):
        rows = [list(row) for row in ROWS]
        rows[4][column] = ""
        write(rows if part == "valid" else ROWS, suffix=f"{part}.inter")
    with pytest.raises(UserError, match=f"1 rows have no {('user', 'item')[column]}_id"):
        created()


def test_an_empty_time_has_no_place_in_an_order_of_time():
    write([*ROWS, ("u1", "i39", 1, "")])
    with pytest.raises(UserError, match="1 rows have no timestamp, which order TO needs"):
        created(eval_args=LEAVE_ONE_OUT)


# --- plain files, which Arrow reads ---------------------------------------------------------------


def of_both_readers(monkeypatch, **keys):
    """The data set as plain files are read, and as others are."""
    plain = created(**keys)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_read_plain", lambda *_: None)
        return plain, created(**keys)


def assert_same(ours, theirs):
    assert list(ours.inter_feat) == list(theirs.inter_feat)
    for column in theirs.inter_feat:
        assert ours.inter_feat[column].dtype == theirs.inter_feat[column].dtype
        pd.testing.assert_series_equal(ours.inter_feat[column], theirs.inter_feat[column])
    assert list(ours.field2id_token) == list(theirs.field2id_token)
    for field, tokens_ in theirs.field2id_token.items():
        assert ours.field2id_token[field].dtype == tokens_.dtype
        assert ours.field2id_token[field].tolist() == tokens_.tolist()
        assert ours.field2token_id[field] == theirs.field2token_id[field]
    if theirs.times is not None:
        np.testing.assert_array_equal(ours.times, theirs.times)


PLAIN = {
    "everything": {"load_col": None},
    "by time": {"eval_args": LEAVE_ONE_OUT},
    "5-core": {"user_inter_num_interval": "[7,inf)", "item_inter_num_interval": "[5,inf)"},
    "at most": {"item_inter_num_interval": "(2,6];[9,inf)"},
    "users": {"user_inter_num_interval": "[10,inf)"},
    "repeats": {"rm_dup_inter": "last", "load_col": None},
    "first": {"rm_dup_inter": "first"},
    "interval": {"val_interval": {"rating": "[3,inf)"}, "item_inter_num_interval": "[4,inf)"},
    "chosen": {"val_interval": {"user_id": ["u1", "u2", "none"]}},
    "threshold": {"threshold": {"rating": 3}},
    "alias": {"alias_of_user_id": ["friend"], "load_col": None},
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("ready", [False, True])
def test_a_plain_file_gives_the_data_set_that_others_give(name, ready, monkeypatch):
    rng = np.random.default_rng(7)
    rows = [
        (f"u{u}", f"i{i}" if i else "", r, NOW + t, f"u{f}" if f else "NA")
        for u, i, r, t, f in rng.integers(0, [25, 30, 6, 99, 40], (300, 5)).tolist()
    ]
    header = [*HEADER, "friend:token"]
    if ready:
        rows = [row for row in rows if row[1]]
        for part, some in (("train", rows[:200]), ("test", rows[150:])):
            write(some, header, suffix=f"{part}.inter")
        keys = {**PLAIN[name], "benchmark_filename": ["train", "test", "test"]}
    else:
        write(rows, header)
        keys = PLAIN[name]
    plain, other = of_both_readers(monkeypatch, **keys)
    assert_same(plain, other)
    # with users' and items' own files, whose ids need not be met elsewhere
    write([(f"u{u}", u % 3) for u in range(5, 30)], ["user_id:token", "age:float"], suffix="user")
    keys = {**keys, "load_col": None}
    keys.pop("val_interval", None)
    assert_same(*of_both_readers(monkeypatch, **keys, filter_inter_by_user_or_item=True))


FIELDS = st.sampled_from(
    [
        *("1", "0012", "1e5", "-0.0", " 2 ", "+3", "nan", "NA", "None", "inf", "-inf", "Infinity"),
        *("", "0x1F", "1_000", "1,5", "1d3", "0.1", "1e-320", "12345678901234567891", "x", "1.5e"),
        *(".5", "5.", "NaN", "true", "#N/A", "1e400", "4.9406564584124654e-324", "2.5\u00a0"),
    ]
)
TOKENS = st.text("abé\"'\\ ,;\u2028\x0b\r\0", max_size=4) | st.sampled_from(["NA", "nan"])


@given(
    st.lists(st.tuples(TOKENS, TOKENS, FIELDS), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]),
    st.booleans(),
)
@settings(max_examples=80)
def test_any_plain_file_is_read_as_others_or_left_to_their_reader(rows, end, last):
    header = ["user_id:token", "item_id:token", "rating:float"]
    text = end.join("\t".join(row) for row in (header, *rows)) + (end if last else "")
    path = Path("odd.inter")
    path.write_bytes(text.encode())
    config = {"field_separator": "\t", "encoding": None, "dataset": "odd"}
    types = dict(zip(header, (str, str, np.float64), strict=True))
    plain = reading._read_plain(str(path), config, header, types)
    if plain is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_read_plain", lambda *_: None)
        other = reading.read_table(str(path), config, header, types)
    for column in header[:2]:
        assert plain[column].astype(object).fillna("").tolist() == other[column].fillna("").tolist()
    np.testing.assert_array_equal(plain[header[2]], other[header[2]])


def test_a_plain_file_is_read_by_arrow_and_once(monkeypatch):
    for part in ("train", "test"):
        write(suffix=f"{part}.inter")
    calls, read = [], reading._read_plain
    monkeypatch.setattr(
        reading, "_read_plain", lambda *args: calls.append(read(*args)) or calls[-1]
    )
    dataset = created(benchmark_filename=["train", "test", "test"])
    assert [len(table) for table in calls] == [len(ROWS)] * 2
    assert all(map(reading.in_categories, (calls[0][column] for column in HEADER[:2])))
    assert len(dataset) == 3 * len(ROWS)


# --- columns --------------------------------------------------------------------------------------

OWN = ["userId:token", "movieId:token", "rating:float", "ts:float"]
OWN_KEYS = {"USER_ID_FIELD": "userId", "ITEM_ID_FIELD": "movieId"}
RATED = [(u, i) for u, i, r, _ in ROWS if r >= 3]


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ({}, ["user_id", "item_id"]),
        ({"eval_args": LEAVE_ONE_OUT}, ["user_id", "item_id", "timestamp"]),
        ({"val_interval": {"rating": "[3,inf)"}}, ["user_id", "item_id", "rating"]),
        ({"threshold": {"rating": 3}}, ["user_id", "item_id", "label"]),
        ({"normalize_field": ["rating"]}, ["user_id", "item_id", "rating"]),
        ({"load_col": {"inter": "*"}}, ["user_id", "item_id", "rating", "timestamp"]),
        ({"load_col": None}, ["user_id", "item_id", "rating", "timestamp"]),
    ],
)
def test_what_other_keys_name_is_loaded(keys, fields):
    write()
    assert list(created(**keys).inter_feat) == fields


def test_own_names_of_columns_are_loaded_and_filtered_by():
    write(header=OWN)
    keys = {**OWN_KEYS, "val_interval": {"rating": "[3,inf)"}, "TIME_FIELD": "ts"}
    dataset = created(**keys, eval_args=LEAVE_ONE_OUT)
    assert list(dataset.inter_feat) == ["userId", "movieId", "rating", "ts"]
    assert tokens(dataset) == RATED


def test_an_interval_of_the_items_own_column():
    write()
    write([(f"i{i}", i) for i in range(40)], ["item_id:token", "year:float"], suffix="item")
    dataset = created(val_interval={"year": "[10,inf)"})
    assert tokens(dataset) == [(u, i) for u, i, *_ in ROWS if int(i[1:]) >= 10]


def test_a_file_that_is_not_loaded_may_have_any_form():
    write()
    write([("a", "b")], ["no", "header"], suffix="item")
    keys = {"val_interval": {"rating": "[3,inf)"}}
    assert tokens(created(**keys)) == RATED
    assert tokens(created(**keys, load_col={"inter": ["user_id", "item_id", "rating"]})) == RATED


HAS = "tiny.inter has user_id, item_id, rating, timestamp"
FILE_HAS = "the file has user_id, item_id, rating, timestamp"
LOAD = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}

COLUMN_MISTAKES = {
    "order": (
        {**LOAD, "eval_args": LEAVE_ONE_OUT},
        f"load_col=.*: order TO needs timestamp; {FILE_HAS}",
    ),
    "own time": (
        {"TIME_FIELD": "ts", "eval_args": LEAVE_ONE_OUT},
        f"TIME_FIELD=ts: order TO needs it; {HAS}",
    ),
    "user": ({"USER_ID_FIELD": "userId"}, f"USER_ID_FIELD=userId: {HAS}"),
    "item": ({"ITEM_ID_FIELD": "movie_id"}, f"ITEM_ID_FIELD=movie_id: {HAS}"),
    "unloaded item": (
        {"load_col": {"inter": ["user_id"]}},
        f"load_col=.*: ITEM_ID_FIELD needs item_id; {FILE_HAS}",
    ),
    "interval": ({"val_interval": {"ratng": "[3,inf)"}}, f"val_interval=.*: {HAS}"),
    "unloaded interval": (
        {**LOAD, "val_interval": {"timestamp": "[3,inf)"}},
        f"load_col=.*: val_interval needs timestamp; {FILE_HAS}",
    ),
    "threshold": ({"threshold": {"stars": 3}}, f"threshold=.*: {HAS}"),
    "threshold of ids": (
        {"threshold": {"item_id": 3}},
        "threshold=.* needs type float; .*item_id:token",
    ),
    "ids as times": (
        {"TIME_FIELD": "item_id", "eval_args": LEAVE_ONE_OUT},
        "TIME_FIELD=item_id: order TO needs type float; the file has item_id:token",
    ),
    "alias": ({"alias_of_user_id": ["friend"]}, f"alias_of_user_id=.*: {HAS}"),
    "load_col of items": ({"load_col": {"item": ["item_id"]}}, "load_col=.* USER_ID_FIELD needs"),
    "unload": (
        {"load_col": None, "unload_col": {"inter": ["timestamp"]}, "eval_args": LEAVE_ONE_OUT},
        "unload_col=.*: order TO needs timestamp",
    ),
    "comma": ({"field_separator": ","}, r"field_separator=',': the first line of .* by '\\t'"),
    "no label": (
        {"metrics": "AUC", "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
        f"LABEL_FIELD=label: mode labeled needs it; {HAS}",
    ),
    "two letters": ({"field_separator": "\\t"}, "field_separator=.* is separated by"),
    "no separator": ({"field_separator": ""}, "field_separator=: must be a string"),
    "encoding": ({"encoding": "utf8mb4"}, "encoding=utf8mb4: Python has no such encoding"),
}


@pytest.mark.parametrize("name", COLUMN_MISTAKES)
def test_a_mistake_names_the_key_and_the_files_columns(name):
    keys, message = COLUMN_MISTAKES[name]
    write()
    with pytest.raises(UserError, match=message):
        created(**keys)


def test_the_files_columns_are_said_where_names_are_the_default():
    write(header=OWN)
    has = "tiny.inter has userId, movieId, rating, ts"
    with pytest.raises(UserError, match=f"USER_ID_FIELD=user_id: {has}"):
        created()
    write(header=["user_id:token", "item_id:token", "item_id:token", "timestamp:float"])
    with pytest.raises(UserError, match="column 'item_id' is twice"):
        created()


def test_a_column_to_load_that_there_is_not_is_told_of(caplog):
    write()
    created(load_col={"inter": ["user_id", "item_id", "ratting"]})
    assert (
        "load_col: there is no column ratting in the inter file, which has user_id" in caplog.text
    )


# --- what was saved and trained before ------------------------------------------------------------


def test_saved_files_of_another_data_set_are_refused():
    write()
    write(name="other")
    Path("saved").mkdir()
    for name in ("tiny", "other"):
        config = Config(
            config_dict={**QUIET, "dataset": name, "save_dataset": True, "save_dataloaders": True}
        )
        data_preparation(config, create_dataset(config))
    Path("broken").write_bytes(b"no pickle")
    kinds = {
        "dataset_save_path": "saved/other-Dataset.pth",
        "dataloaders_save_path": "saved/other-for-BPR-dataloader.pth",
    }
    for key, path in kinds.items():
        for named, message in (
            (path, f"{key}={path}: holds .*the data set other, not"),
            ("none.pth", f"{key}=none.pth: must be a file that save_.* left .No such file"),
            ("broken", f"{key}=broken: must be a file that save_"),
        ):
            config = Config(config_dict={**QUIET, "dataset": "tiny", key: named})
            with pytest.raises(UserError, match=message):
                data_preparation(config, create_dataset(config))
        # of the same name they are used
        config = Config(config_dict={**QUIET, "dataset": "other", key: path})
        data_preparation(config, create_dataset(config))


def test_saved_files_of_other_settings_are_not_used_and_that_is_said(caplog):
    write()
    Path("saved").mkdir()
    keys = {"save_dataset": True, "save_dataloaders": True}
    config = Config(config_dict={**QUIET, "dataset": "tiny", **keys})
    data_preparation(config, create_dataset(config))
    filtered = {"val_interval": {"rating": "[3,inf)"}}
    path = "saved/tiny-Dataset.pth"
    assert tokens(created(**filtered, dataset_save_path=path)) == RATED
    assert f"{path} is not used: it was saved with another val_interval" in caplog.text
    # it has no times to be ordered by
    by_time = {"eval_args": LEAVE_ONE_OUT}
    assert parts(**by_time, dataset_save_path=path) == parts(**by_time)
    assert f"{path} is not used: it was saved with another load_col" in caplog.text
    path = "saved/tiny-for-BPR-dataloader.pth"
    config = Config(
        config_dict={**QUIET, "dataset": "tiny", **filtered, "dataloaders_save_path": path}
    )
    train, *_ = data_preparation(config, create_dataset(config))
    assert len(train._dataset) < len(RATED)
    assert f"{path} is not used: they were saved with other settings" in caplog.text


def test_a_checkpoint_is_not_resumed_on_other_ids():
    write()
    keys = {**QUIET, "dataset": "tiny", "epochs": 1, "embedding_size": 4, "checkpoint_dir": "saved"}
    run(config_dict=keys)
    (checkpoint,) = Path("saved").glob("*.pth")
    before = checkpoint.read_bytes()
    further = {"resume": checkpoint, "config_dict": {"epochs": 2, "show_progress": False}}
    # the same users and items, and as many of them
    write([ROWS[100], *ROWS])
    with pytest.raises(
        UserError, match=r"resume=.*was trained on other users or items than dataset=tiny"
    ):
        run(**further)
    with pytest.raises(UserError, match=r"model_file=.*its rows in another order"):
        load_data_and_model(checkpoint)
    assert checkpoint.read_bytes() == before
    # one that was written before there was a digest is as readable as it was
    state = torch.load(checkpoint)
    assert isinstance(state.pop("tokens"), str)
    torch.save(state, checkpoint)
    load_data_and_model(checkpoint)
    checkpoint.write_bytes(before)
    write()
    run(**further)


def test_the_digest_tells_lists_of_tokens_apart():
    write()
    digests = {token_digest(created())}
    for rows in ([*ROWS, ("new", "i1", 1, 1)], ROWS[::-1], [(i, u, r, t) for u, i, r, t in ROWS]):
        write(rows)
        digests.add(token_digest(created()))
    assert len(digests) == 4
    write([*ROWS, ROWS[0]])
    assert token_digest(created()) in digests
