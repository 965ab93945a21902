"""Splits by time and by each user's order, against loops, and how a split is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns import run
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.convert import PARTS, convert
from recbole_hns.convert.interactions import Interactions
from recbole_hns.convert.split import split
from recbole_hns.errors import UserError
from recbole_hns.results import read_run

#: User, item and time of each interaction. As float32, all of these times are one.
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 30).map(lambda s: 1.7e9 + s)),
    min_size=1,
    max_size=60,
)


def made(rows, how, validation):
    """The part of each row by the package, and the rows in the order of time."""
    user, item, time = map(np.array, zip(*rows))
    interactions = Interactions(
        user.astype(np.int32), item.astype(np.int32), range(6), range(10), {"timestamp": time}
    )
    interactions.sort_by_time()
    interactions.drop_repeats()
    found = split(interactions, validation, 0, how=how)
    kept = zip(interactions.user, interactions.item, interactions.fields["timestamp"])
    return [(*row, PARTS[part]) for row, part in zip(kept, found)]


def first_of_pairs(rows):
    """Rows in the order of time, each pair once: where it is first in time, then in the file."""
    ordered = sorted(rows, key=lambda row: row[2])
    return list({(user, item): None for user, item, _ in ordered}), ordered


@given(rows=ROWS, validation=st.sampled_from([0, 0.1, 0.3]))
def test_temporal_parts_are_one_after_the_other(rows, validation):
    pairs, ordered = first_of_pairs(rows)
    times = [next(t for u, i, t in ordered if (u, i) == pair) for pair in pairs]
    expected = ["train"] * len(pairs)
    end = len(pairs)
    for part, share in (("test", 0.2), ("valid", validation)):
        wanted = int(share * end + 0.5)
        if wanted:
            cut = times[end - wanted]
            for place in range(end):
                if times[place] >= cut:
                    expected[place] = part
            end = expected.index(part)
    found = made(rows, "temporal", validation)
    assert found == [(*pair, t, part) for pair, t, part in zip(pairs, times, expected)]
    # nothing is trained with that is not known before
    for earlier, later in (("train", "valid"), ("valid", "test"), ("train", "test")):
        before, after = ([row[2] for row in found if row[3] == part] for part in (earlier, later))
        assert not before or not after or max(before) < min(after)


@given(rows=ROWS, validation=st.sampled_from([0, 0.1]))
def test_the_last_of_each_user_is_left_out(rows, validation):
    found = made(rows, "leave-last", validation)
    pairs, _ = first_of_pairs(rows)
    for user in {row[0] for row in rows}:
        own = [item for each, item in pairs if each == user]
        expected = ["train"] * len(own)
        if len(own) > 1:
            expected[-1] = "test"
        if len(own) > 2 and validation:
            expected[-2] = "valid"
        assert [(i, part) for u, i, _, part in found if u == user] == list(zip(own, expected))


FRAME = pd.DataFrame(
    [(f"u{u}", f"i{i}", 1.7e9 + 7 * ((u * i) % 50)) for u in range(12) for i in range(u, u + 9)],
    columns=["user", "item", "time"],
)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {},
            "random, 20% of each user's interactions are the test part, 10% of each user's others "
            "the validation part, seed 2020",
        ),
        (
            {"split": "temporal", "validation": 0.125},
            "temporal, the last 20% of all interactions by time are the test part, the last 12.5% "
            "before them the validation part",
        ),
        (
            {"split": "leave-last"},
            "leave-last, the last interaction of each user is the test part, the one before it the "
            "validation part",
        ),
    ],
)
def test_a_split_is_told_by_what_is_made_with_it(options, told):
    report = convert(FRAME, "dataset/mine", **options)
    assert f"split: {told}" in report.notes
    config = Config(dataset="mine", config_dict=QUIET)
    assert config["data_split"] == told
    assert "data_split" not in config.resolved()


def test_a_result_file_has_the_split():
    convert(FRAME, "dataset/mine", split="leave-last")
    keys = {**QUIET, "epochs": 1, "embedding_size": 4, "topk": [3], "valid_metric": "NDCG@3"}
    result = run(dataset="mine", config_dict=keys)
    assert read_run(result.result_file).config["data_split"].startswith("leave-last, the last")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "RecBole's RS, random order, 0.8, 0.1, 0.1 of each user's interactions"),
        (
            {"order": "TO", "group_by": "none", "split": {"RS": [8, 1, 1]}},
            "RecBole's RS, order of time, 8, 1, 1 of all interactions",
        ),
        (
            {"order": "TO", "split": {"LS": "valid_and_test"}},
            "RecBole's LS, order of time, valid_and_test of each user's interactions",
        ),
    ],
)
def test_recboles_splits_are_told(arguments, told):
    assert Config(config_dict={"eval_args": arguments})["data_split"] == told


def test_a_ready_split_of_others_is_ready():
    convert(FRAME, "dataset/mine")
    path = Path("dataset/mine/mine.split.yaml")
    path.unlink()
    assert Config(dataset="mine")["data_split"] == "ready"
    for text in ("split: 5", "split: [a]", 'split: "a\\nb"', "{}"):
        path.write_text(text)
        with pytest.raises(
            UserError, match=r"mine\.split\.yaml: must hold split, one line of text"
        ):
            Config(dataset="mine")


MISTAKES = {
    "word": ({"split": "time"}, "split=time: must be random or temporal or leave-last"),
    "no times": ({"split": "temporal"}, "split=temporal: needs times; name their column with"),
    "no times either": ({"split": "leave-last"}, "split=leave-last: needs times"),
    "mat": ({"split": "temporal", "format": "mat"}, "needs times, and format=mat has none"),
    "share": (
        {"split": "leave-last", "validation": 0.2, "time_column": "t"},
        "validation=0.2: with split=leave-last it is one interaction of each user; leave it out",
    ),
    "one time": (
        {"split": "temporal", "time_column": "t"},
        "split=temporal: the times leave no training part; too many interactions are of the same",
    ),
    "one each": (
        {"split": "leave-last", "time_column": "t"},
        "input=x.csv: no user has the 2 interactions of which one would be the test part",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_line_and_leaves_nothing(name, capsys):
    given, message = MISTAKES[name]
    Path("x.csv").write_text("user,item,t\n" + "".join(f"u{i},i{i},5\n" for i in range(9)))
    options = {"input": "x.csv", "output": "dataset/new", **given}
    assert main(["convert", *(f"--{key}={value}" for key, value in options.items())]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("dataset").exists()


def test_a_ready_split_is_not_split_anew(capsys):
    for part in ("a", "b"):
        Path(f"{part}.csv").write_text(f"user,item,time\nu,{part},5\n")
    options = ["--train=a.csv", "--test=b.csv", "--split=temporal", "--output=new"]
    assert main(["convert", *options]) == 2
    assert "split=temporal: is of --input; a split that is ready" in capsys.readouterr().err
