"""The experiment with searches, with a program in the place of ``recbole-hns``."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import search
import unseen

from recbole_hns.tuning import joint

PROGRAM = """\
import json, pathlib, sys, time
_, command, *rest = sys.argv[1:]
given = dict(text[2:].partition("=")[::2] for text in rest)
files = pathlib.Path(given.get("output") or given["checkpoint_dir"])
(files / "calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
if command == "run":
    (files / "run.json").write_text(json.dumps({"best_valid_score": 0.5}))
    sys.exit()
if given.get("seed") == "9":
    sys.exit("a mistake")
(files / "search.yaml").touch()
(files / "trials").mkdir(exist_ok=True)
for number, score in enumerate((None, 0.2, 0.4, 0.3)):
    (files / f"trials/{number}.json").write_text(json.dumps({"best_valid_score": score}))
while "trials" in given:
    pass
"""


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Runs the experiment with a program that writes result files; returns its exit status."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(search, "PROGRAM", [sys.executable, "-S", str(program)])
    monkeypatch.setattr(search, "LOOK", 0.05)
    arguments = ["--recipe=ml-1m", "--budget=0.005", "--dataset=toy"]
    return lambda *more: search.main([*arguments, *more])


def test_searches_are_measured_one_after_the_other(called, capsys):
    assert called("--seeds=1", "--lr_decay=0.9") == 0
    out = capsys.readouterr().out
    assert out == Path("searches/table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[2:]]
    assert [row[:5] for row in rows] == [
        ["recipe", "1", "1", "0.5000", "1.000"],
        ["joint", "1", "3", "0.4000", "0.800"],
        ["random", "1", "3", "0.4000", "0.800"],
        ["grid", "1", "3", "0.4000", "0.800"],
    ]
    curves = pd.read_csv("searches/curves.csv")
    assert list(curves) == ["method", "seed", "cpu_seconds", "best"]
    last = curves.groupby("method")["best"].last().to_dict()
    assert last == {"recipe": 0.5, "joint": 0.4, "random": 0.4, "grid": 0.4}
    # the joint search does not end by itself
    assert json.loads(Path("searches/joint-1/entry.json").read_text())["cpu_seconds"] >= 0.3
    call = Path("searches/random-1/files/calls").read_text()
    for option in (
        "toy tune ",
        "--dataset=toy",
        "--seed=1",
        "--lr_decay=0.9",
        "--max_concurrent=1",
    ):
        assert option in call

    # what is done is not done again; what was begun is resumed
    Path("searches/joint-1/entry.json").unlink()
    Path("searches/joint-1/curve.csv").write_text("cpu_seconds,best\n0.1,0.2\n")
    assert called("--seeds=1", "--lr_decay=0.9") == 0
    calls = {path.parts[1]: path.read_text() for path in Path("searches").rglob("calls")}
    assert [calls[f"{name}-1"].count("\n") for name in ("recipe", "joint", "grid")] == [1, 2, 1]
    assert calls["joint-1"].endswith("--resume\n")
    assert called("--seeds=1", "--embedding_size=8") == 2
    assert "output=searches: was made with other options" in capsys.readouterr().err


def test_mistakes_are_told_in_a_line(called, capsys):
    assert called("--seeds=9") == 1
    assert "joint-9 ended with exit status 1: see" in capsys.readouterr().err
    assert not Path("searches/joint-9/entry.json").exists()
    assert search.main(["--recipe=nowhere", "--output=other"]) == 2
    assert "recipe=nowhere: must be one of" in capsys.readouterr().err


@pytest.mark.parametrize(("dataset", "kept"), [("phones", True), ("yelp2018", False)])
def test_a_data_set_is_as_one_that_nobody_has_seen(monkeypatch, dataset, kept):
    monkeypatch.setattr(joint, "recipe_files", joint.recipe_files)
    before = joint.recipe_files()
    unseen.forget(dataset)
    names = [[path.stem for path in recipe] for recipe in joint.recipe_files()]
    assert [dataset] not in names
    assert ["ml-1m"] in names
    assert len(names) == len(before) - 2 + 1
    assert (["common", "yelp2018-lightgcn-bsl"] in names) is kept
    # of every kind of loss by cosine that it starts from otherwise
    space = joint.JointSpace("LightGCN", {}, joint.Facts(30_000, 40_000, 1_000_000))
    losses = {start.get("cosine.loss") for start in joint.recipes(space)}
    assert losses == {None, "bsl", "sl_at_k"}


@pytest.mark.parametrize("dataset", ["gowalla", "gowalla-ir"])
def test_another_split_of_a_data_set_has_been_seen_too(monkeypatch, dataset):
    monkeypatch.setattr(joint, "recipe_files", joint.recipe_files)
    unseen.forget(dataset)
    names = [path.stem for recipe in joint.recipe_files() for path in recipe]
    assert "ml-1m" in names
    assert not [name for name in names if "gowalla" in name]
