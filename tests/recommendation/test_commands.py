"""The commands on a checkpoint: what they write and print, and mistakes in one line."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import QUIET

from recbole_hns import run
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.recommendation.commands import evaluate, recommend
from recbole_hns.recommendation.tables import read_users

SHORT = {**QUIET, "epochs": 2, "embedding_size": 4, "topk": [5, 10], "valid_metric": "MRR@5"}


@pytest.fixture
def result(toy):
    return run(config_dict={**SHORT, **toy})


def read(path):
    if path.endswith(".parquet"):
        return pd.read_parquet(path)
    kinds = {"user": str, "item": str}
    return pd.read_csv(path, dtype=kinds) if path.endswith(".csv") else pd.read_json(
        path, lines=True, dtype=kinds
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_recommend_writes_the_lists(suffix, result, capsys):
    output = f"new/recs.{suffix}"
    arguments = [f"--checkpoint={result.checkpoint}", f"--output={output}", "--topk=4"]
    assert main(["recommend", *arguments]) == 0
    assert capsys.readouterr().out == f"30 lists, 120 items: {output}\n"
    found = read(output)
    assert found.columns.tolist() == ["user", "item", "rank", "score"]
    pd.testing.assert_frame_equal(found, result.recommend(k=4), check_dtype=False, atol=1e-6)
    assert [path.name for path in Path("new").iterdir()] == [f"recs.{suffix}"]


def test_names_that_need_quotes_come_back(write_dataset):
    folder = Path("dataset/odd")
    folder.mkdir(parents=True)
    names = ['a,"b"', "ä ß", "'c'", "1.0", "NA"]
    lines = [f"{user}\t{item}" for user in names for item in [*names, "d", "e"][:5]]
    lines += ["f\td", "f\te", "f\tg"]
    (folder / "odd.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines]) + "\n")
    keys = {"dataset": "odd", "load_col": {"inter": ["user_id", "item_id"]}, "topk": 1}
    result = run(config_dict={**SHORT, **keys, "valid_metric": "MRR@1", "protocol": "all"})
    for suffix in ("csv", "jsonl", "parquet"):
        recommend(result.checkpoint, f"r.{suffix}", topk=3)
        kinds = {"keep_default_na": False, "dtype": {"user": str, "item": str}}
        found = pd.read_csv("r.csv", **kinds) if suffix == "csv" else read(f"r.{suffix}")
        assert found["user"].unique().tolist() == result.recommend(k=3)["user"].unique().tolist()
        assert set(names) <= set(found["user"])


def test_recommend_takes_users_from_a_file(result, capsys):
    Path("some.csv").write_text("n,user_id\n1,u7\n2,u3\n3,u7\n")
    checkpoint = f"--checkpoint={result.checkpoint}"
    assert (
        main(["recommend", checkpoint, "--users=some.csv", "--output=r.csv", "--keep_known"]) == 0
    )
    expected = result.recommend(["u7", "u3"], 10, keep_known=True)
    pd.testing.assert_frame_equal(read("r.csv"), expected, check_dtype=False, atol=1e-6)


def test_recommend_finds_similar_items(result):
    arguments = [f"--checkpoint={result.checkpoint}", "--related-to=i3", "--output=r.csv"]
    assert main(["recommend", *arguments]) == 0
    found = read("r.csv")
    assert found.columns.tolist() == ["related_to", "item", "rank", "score"]
    assert (found["related_to"] == "i3").all()
    assert found["item"].tolist() == result.similar("i3")["item"].tolist()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("u1\nu2\n", ["u1", "u2"]),
        ("u2\r\n\r\nu1\r\nu2", ["u2", "u1"]),
        ("user\nu1\n", ["u1"]),
        ("\ufeffuser_id:token\titem_id:token\nu1\ti1\nu1\ti2\nu3\ti1\n", ["u1", "u3"]),
        ('name,User\n"x, y","u,1"\n', ["u,1"]),
        ('"a b"\n', ["a b"]),
    ],
)
def test_files_of_users(content, expected):
    Path("users.txt").write_text(content)
    assert read_users("users.txt") == expected


@pytest.mark.parametrize("column", ["user_id", "n"])
def test_parquet_files_of_users(column):
    pd.DataFrame({column: [4, 2, 4]}).to_parquet("users.parquet")
    assert read_users("users.parquet") == ["4", "2"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("u.csv", None, r"users=u.csv: cannot be read \(No such file"),
        ("u.csv", b"\n\n", "users=u.csv: names no user"),
        ("u.csv", b"a,b\n1,2\n", "must have a column user or user_id; its columns are a, b"),
        ("u.csv", b"\xff\xfe\x00", "users=u.csv: cannot be read"),
        ("u.parquet", b"PAR1", "users=u.parquet: cannot be read"),
    ],
)
def test_files_that_name_no_users(name, content, told):
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_users(name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output=r.csv"], "--checkpoint: is needed"),
        (["--checkpoint=C"], "--output: is needed"),
        (
            ["--checkpoint=C", "--output=r.txt"],
            "output=r.txt: must end in .parquet, .csv or .jsonl",
        ),
        (["--checkpoint=C", "--output=.csv"], "output=.csv: must end in"),
        (["--checkpoint=C", "--output=dataset"], "output=dataset: must end in"),
        (["--checkpoint=C", "--output=file/r.csv"], "must be a directory that can be written to"),
        (["--checkpoint=C", "--output=d.csv"], "output=d.csv: is a directory"),
        (["--checkpoint=a.pth", "--output=n/r.csv"], "checkpoint=a.pth: must be a checkpoint file"),
        (["--checkpoint=C", "--output=r.csv", "--topk=41"], "topk=41: must be an integer >= 1 and"),
        (["--checkpoint=C", "--output=r.csv", "--topk=0"], "topk=0: must be an integer > 0"),
        (
            ["--checkpoint=C", "--output=r.csv", "--users=file"],
            "users=file: 1 of 1 are no users of",
        ),
        (["--checkpoint=C", "--output=r.csv", "--users=no"], "users=no: cannot be read"),
        (["--checkpoint=C", "--output=r.csv", "--related-to=x"], "related_to=x: is no item"),
        (["--checkpoint=C", "--output=r.csv", "--related-to=i1", "--users=file"], "cannot go with"),
        (["--checkpoint=C", "--output=r.csv", "--tokp=3"], "did you mean --topk"),
        (["--checkpoint=C", "--output=r.csv", "--data_path=no"], "data_path="),
    ],
)
def test_mistakes_of_recommend(arguments, told, result, capsys):
    Path("file").write_text("nobody\n")
    Path("d.csv").mkdir()
    given = [each.replace("=C", f"={result.checkpoint}") for each in arguments]
    capsys.readouterr()
    assert main(["recommend", *given]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert told in err[0]
    assert not Path("r.csv").exists()
    assert not Path("n").exists()
    assert not list(Path().glob(".*"))


def test_users_unknown_to_the_training_part_are_told(write_split, caplog):
    keys = write_split("train", "valid", "test")
    with open("dataset/split/split.test.inter", "a") as file:
        file.write("new\ti1\n")
    result = run(config_dict={**keys, "embedding_size": 4})
    with caplog.at_level("WARNING"):
        recommend(result.checkpoint, "r.csv", topk=3)
    assert "1 of 10 users have no interaction in the training part" in caplog.text


# --- evaluate -------------------------------------------------------------------------------------


def test_evaluate_repeats_the_runs_test_and_computes_others(result, capsys):
    assert evaluate(result.checkpoint) == result["test_result"]
    assert evaluate(result.checkpoint, part="valid") == result["best_valid_result"]
    found = evaluate(result.checkpoint, metrics="NDCG", topk=3)
    assert [*found] == ["ndcg@3"]
    capsys.readouterr()
    arguments = ["--metrics=OPAUC,NDCG,ItemCoverage", "--topk=3,5", "--part=test"]
    assert main(["evaluate", f"--checkpoint={result.checkpoint}", *arguments]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(shown["ndcg@3"]) == found["ndcg@3"]
    assert float(shown["ndcg@5"]) == result["test_result"].get("ndcg@5", float(shown["ndcg@5"]))
    assert {"opauc@0.01", "itemcoverage@3", "itemcoverage@5"} < set(shown)


def test_evaluate_leaves_nothing(result):
    before = sorted(Path().rglob("*"))
    evaluate(result.checkpoint)
    assert sorted(Path().rglob("*")) == before


def test_evaluate_a_model_without_vectors(toy):
    keys = {"sampler": "rns", "embedding_size": 64, "epochs": 1}
    result = run("ConvNCF", config_dict={**SHORT, **toy, **keys})
    assert evaluate(result.checkpoint) == result["test_result"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--checkpoint: is needed"),
        (["--checkpoint=C", "--metrics=NDGC"], "RecBole has no metric NDGC; did you mean ndcg?"),
        (["--checkpoint=C", "--metrics=RMSE"], "RMSE rates values"),
        (["--checkpoint=C", "--topk=0"], "topk=0: must be"),
        (["--checkpoint=C", "--topk=500"], "topk=[500]: must be <= 40, the number of items"),
        (["--checkpoint=C", "--part=train"], "part=train: must be test or valid"),
        (["--checkpoint=a.pth"], "checkpoint=a.pth: must be a checkpoint file"),
    ],
)
def test_mistakes_of_evaluate(arguments, told, result, capsys):
    given = [each.replace("=C", f"={result.checkpoint}") for each in arguments]
    capsys.readouterr()
    assert main(["evaluate", *given]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert told in err[0]


@pytest.mark.parametrize(("protocol", "part"), [("paper", "valid"), ("all", "test")])
def test_a_part_that_was_trained_on_is_not_evaluated(protocol, part, toy):
    result = run(config_dict={**SHORT, **toy, "protocol": protocol})
    with pytest.raises(UserError, match=f"part={part}: .* protocol={protocol}"):
        evaluate(result.checkpoint, part=part)


def test_what_is_written_is_written_whole(result, monkeypatch):
    Path("r.jsonl").write_text("before\n")
    monkeypatch.setattr(pd.DataFrame, "to_json", lambda *args, **keys: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recommend(result.checkpoint, "r.jsonl")
    assert Path("r.jsonl").read_text() == "before\n"
    assert not list(Path().glob(".r.jsonl*"))


def test_one_list_is_told_as_one(result, capsys):
    arguments = [f"--checkpoint={result.checkpoint}", "--related-to=i3", "--output=r.csv"]
    assert main(["recommend", *arguments, "--topk=1"]) == 0
    assert capsys.readouterr().out == "1 list, 1 item: r.csv\n"


def test_keep_known_is_of_no_list_of_similar_items(result, capsys):
    arguments = [f"--checkpoint={result.checkpoint}", "--related-to=i3", "--output=r.csv"]
    assert main(["recommend", *arguments, "--keep_known"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("keep_known=True: cannot go with related_to, whose list is of no user's")
    assert not Path("r.csv").exists()
