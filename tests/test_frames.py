"""Runs on data frames: as on the same rows in an atomic file, and what is left of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import QUIET, environment

from recbole_hns import load, run, tune
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.training.checkpoint import load_checkpoint

SHORT = {**QUIET, "epochs": 2, "embedding_size": 4, "topk": 5, "valid_metric": "MRR@5"}


def make_frame():
    """Ids that are odd, repeats, ratings and times that no file would round."""
    random = np.random.default_rng(3)
    pairs = [(u, i) for u in range(30) for i in random.choice(40, 11, replace=False)]
    pairs += pairs[:7]
    return pd.DataFrame(
        {
            "note": "x",
            "product": [f'i "{i}, ' for _, i in pairs],
            "customer": [1000 + u for u, _ in pairs],
            "stars": random.random(len(pairs)) * 5,
            "when": pd.to_datetime(random.integers(10**17, 10**18, len(pairs))),
        }
    )


@pytest.fixture
def frame():
    return make_frame()


def write_inter(frame, name="toy"):
    """The rows of the frame as RecBole's atomic file."""
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for row in frame.itertuples():
        time = row.when.value / 10**9
        lines.append(f"{row.customer}\t{row.product}\t{row.stars!r}\t{time!r}")
    Path(f"dataset/{name}").mkdir(parents=True)
    Path(f"dataset/{name}/{name}.inter").write_text("\n".join(lines) + "\n")


KEYS = {
    "default": {},
    "by time": {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}},
    "filtered": {"val_interval": {"rating": "[2,inf)"}, "user_inter_num_interval": "[4,inf)"},
    "without repeats": {"rm_dup_inter": "last"},
    "all": {"protocol": "all"},
    "paper": {"protocol": "paper", "model": "LightGCN"},
}


@pytest.mark.parametrize("name", KEYS)
def test_a_frame_trains_as_the_same_rows_in_a_file(name, frame):
    write_inter(frame)
    expected = run(dataset="toy", config_dict={**SHORT, **KEYS[name]})
    found = run(dataset=frame, config_dict={**SHORT, **KEYS[name]})
    assert found == expected
    losses = [[epoch["train_loss"] for epoch in each.epochs] for each in (found, expected)]
    assert losses[0] == losses[1]
    for one, other in zip(found.model.parameters(), expected.model.parameters()):
        assert torch.equal(one, other)
    pd.testing.assert_frame_equal(found.recommend(k=4), expected.recommend(k=4))


def test_every_kind_of_frame_is_the_same_data_set(frame):
    times = pl.from_pandas(frame)
    frames = [frame, times, pa.Table.from_pandas(frame), times.to_arrow().to_reader()]
    results = [run(dataset=each, config_dict=SHORT) for each in frames]
    assert all(result == results[0] for result in results)
    assert len(list(Path("dataset").iterdir())) == 1
    run(dataset=frame[:-9], config_dict=SHORT)
    assert len(list(Path("dataset").iterdir())) == 2


def test_columns_are_found_as_told(frame):
    expected = run(dataset=frame, config_dict=SHORT)
    odd = frame.rename(
        columns={"customer": "wer", "product": "was", "stars": "wie", "when": "wann"}
    )
    names = {"user": "wer", "item": "was", "rating": "wie", "time": "wann"}
    options = {f"{field}_column": name for field, name in names.items()}
    assert run(dataset=odd, config_dict=SHORT, **options) == expected
    # by RecBole's keys, which are then the names in the file
    fields = {
        "USER_ID_FIELD": "wer",
        "ITEM_ID_FIELD": "was",
        "RATING_FIELD": "wie",
        "TIME_FIELD": "wann",
    }
    keys = {"val_interval": {"wie": "[0,inf)"}, "eval_args": {"order": "TO"}}
    result = run(dataset=odd, config_dict={**SHORT, **fields, **keys})
    path = Path(result.config["data_path"]) / f"{result.config['dataset']}.inter"
    assert path.read_text().startswith("wer:token\twas:token\twie:float\twann:float\n")
    assert run(dataset=odd, resume=result.checkpoint, config_dict={**QUIET, "epochs": 3})
    assert load(result.checkpoint).recommend(1001, 3)["user"].tolist() == ["1001"] * 3
    # RecBole's own names go before others that are usual
    both = frame.assign(user_id=frame["customer"], timestamp=range(len(frame)))
    run(dataset=both, config_dict=SHORT)


def test_the_log_says_where_the_frame_is(frame, capfd):
    result = run(dataset=frame, config_dict={**SHORT, "state": "INFO", "data_path": "there"})
    name = result.config["dataset"]
    assert name.startswith("frame-")
    told = f"the frame is now the data set {name}, in {Path.cwd()}/there/{name}/{name}.inter; "
    told += "columns read: customer as user, product as item, stars as rating, when as timestamp; "
    assert told + "columns left out: note" in capfd.readouterr().err


@pytest.mark.parametrize("protocol", ["valid", "all"])
def test_the_checkpoint_is_an_ordinary_one(protocol, frame):
    result = run(dataset=frame, config_dict={**SHORT, "protocol": protocol})
    expected = result.recommend(k=3)
    assert set(expected["user"]) == set(frame["customer"].astype(str))
    assert set(expected["item"]) <= set(frame["product"])
    known = set(zip(frame["customer"].astype(str), frame["product"]))
    assert not known & set(zip(expected["user"], expected["item"]))
    code = (
        "import sys; from recbole_hns import load\n"
        "load(sys.argv[1]).recommend(k=3).to_parquet('other.parquet')"
    )
    arguments = [sys.executable, "-c", code, str(result.checkpoint)]
    subprocess.run(arguments, check=True, env=environment())
    pd.testing.assert_frame_equal(pd.read_parquet("other.parquet"), expected)
    checkpoint = f"--checkpoint={result.checkpoint}"
    frame[:5].to_json("users.jsonl", orient="records", lines=True)
    some = ["--users=users.jsonl", "--output=lists.parquet", "--topk=3"]
    assert main(["recommend", checkpoint, *some]) == 0
    some = expected[expected["user"] == str(frame["customer"][0])]
    pd.testing.assert_frame_equal(pd.read_parquet("lists.parquet"), some)
    assert main(["export", checkpoint, "--output=served"]) == 0
    assert main(["evaluate", checkpoint]) == (2 if protocol == "all" else 0)
    # in another folder, with the frame or without
    for dataset in (None, frame):
        epochs = load_checkpoint(result.checkpoint)["last"]["epoch"] + 2
        longer = run(
            dataset=dataset, resume=result.checkpoint, config_dict={**QUIET, "epochs": epochs}
        )
        assert len(longer.epochs) == epochs
    with pytest.raises(UserError, match="the run was started with frame-"):
        run(dataset=frame[:-1], resume=result.checkpoint, config_dict=QUIET)


def test_floats_of_a_frame_are_its_users_too(frame):
    frame["customer"] = frame["customer"].astype(float)
    result = run(dataset=frame, config_dict=SHORT)
    users = frame["customer"].unique()[:3]
    assert result.recommend(users, 1)["user"].tolist() == [str(int(user)) for user in users]


@pytest.mark.parametrize(
    ("given", "keys", "told"),
    [
        ({"user_column": "wer"}, {}, "user_column=wer: the frame has the columns note, product, c"),
        ({"dataset": pd.DataFrame()}, {}, "dataset=the frame: has no columns"),
        ({"dataset": pd.DataFrame({"user": ["a"]})}, {}, "name it with item_column=NAME"),
        ({"dataset": pl.DataFrame({"user": []}).lazy()}, {}, "dataset=LazyFrame: must be the name"),
        ({"dataset": np.ones(1)}, {}, "dataset=ndarray: must be the name of a data set"),
        ({"dataset": pl.Series([1])}, {}, "dataset=the frame: cannot be read: "),
        ({}, {"sampler": "dnss"}, "sampler=dnss: "),
        ({}, {"encoding": "latin-1"}, "encoding=latin-1: is of files, and the data set is a data"),
        ({}, {"benchmark_filename": ["a", "b", "c"]}, "is of files, and the data set is a data fr"),
        ({}, {"field_separator": ","}, "field_separator=,: is of files"),
        (
            {},
            {"user_column": "customer"},
            "no such key; it is an option of recbole-hns convert, and",
        ),
        ({}, {"min_rating": 3}, "min_rating=3: no such key; set val_interval"),
        ({"dataset": "toy", "user_column": "u"}, {}, "user_column=u: names a column of a data fra"),
    ],
    ids=lambda value: value if isinstance(value, str) else "keys",
)
def test_mistakes_leave_nothing(given, keys, told, frame):
    with pytest.raises(UserError) as caught:
        run(**{"dataset": frame, **given}, config_dict={**SHORT, **keys})
    assert told in str(caught.value)
    assert not Path("dataset").exists()
    assert not list(Path().glob("saved/*.pth"))


def test_where_there_can_be_no_frame_it_is_told(frame):
    for function in (Config, lambda dataset: run(config_dict={"dataset": dataset})):
        with pytest.raises(UserError, match="dataset=DataFrame: must be the name of a data set"):
            function(dataset=frame)
    with pytest.raises(UserError):
        tune(dataset=frame, params={"learning_rate": [0.1]})


@pytest.mark.parametrize("path", ["x.csv.gz", "there/my data.parquet", "x.jsonl"])
def test_a_file_in_place_of_a_data_set_is_told_how(path, capsys):
    Path("there").mkdir()
    Path(path).touch()
    assert main(["run", f"--dataset={path}"]) == 2
    name = Path(path).name.split(".")[0]
    err = capsys.readouterr().err
    assert "recbole-hns convert --input=" in err
    assert f"--output=dataset/{name}" in err.replace("'", "")
