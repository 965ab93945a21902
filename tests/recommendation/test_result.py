"""What ``run`` returns and ``load`` gives back: a dictionary as before, the model, and pickles."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import QUIET, environment
from recbole.model.general_recommender import BPR

import recbole_hns
from recbole_hns import load, run
from recbole_hns.errors import UserError
from recbole_hns.sampler.dns import DNS

SHORT = {**QUIET, "epochs": 2, "embedding_size": 4, "topk": 5, "valid_metric": "MRR@5"}


class OwnModel(BPR):
    """A model of a user's."""


class OwnSampler(DNS):
    """A sampler of a user's."""


def test_a_result_reads_as_recboles_dictionary(toy):
    result = run(config_dict={**SHORT, **toy})
    assert isinstance(result, dict)
    assert [*result] == [
        "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"
    ]  # fmt: skip
    assert json.loads(json.dumps(result)) == result
    assert {**result} == dict(result) == result
    content = json.loads(result.result_file.read_text())
    assert result.metrics == content["test_result"] == result["test_result"]
    assert result.best_epoch == content["best_epoch"]
    assert [entry["train_loss"] for entry in result.epochs] == [
        entry["train_loss"] for entry in content["epochs"]
    ]
    assert result.checkpoint == Path("saved").absolute() / f"{content['run']}.pth"
    assert (result.config["model"], type(result.model)) == ("BPR", BPR)
    assert result.dataset.inter_num == len(result.dataset.inter_feat)
    frame = result.recommend(["u1", "u7"], 3)
    assert frame.columns.tolist() == ["user", "item", "rank", "score"]
    assert frame["user"].tolist() == ["u1"] * 3 + ["u7"] * 3
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert len(result.recommend()) == 30 * 10


def test_a_checkpoint_gives_the_result_back(toy):
    result = run("LightGCN", config_dict={**SHORT, **toy})
    loaded = load(result.checkpoint)
    assert loaded == result
    assert (loaded.best_epoch, loaded.checkpoint) == (result.best_epoch, result.checkpoint)
    assert loaded.result_file == result.result_file
    assert [e["epoch"] for e in loaded.epochs] == [1, 2]
    pd.testing.assert_frame_equal(loaded.recommend(), result.recommend())
    result.result_file.unlink()
    loaded = load(result.checkpoint)
    assert (loaded.result_file, loaded.metrics, loaded["test_result"]) == (None, {}, None)
    assert loaded["best_valid_result"] == result["best_valid_result"]


def test_a_result_travels_without_its_model(toy, tmp_path, monkeypatch):
    result = run(OwnModel, sampler=OwnSampler, config_dict={**SHORT, **toy})
    packed = pickle.dumps(result)
    assert len(packed) < 5000
    monkeypatch.chdir(Path("/"))
    there = pickle.loads(packed)
    assert there == result
    assert (there.checkpoint, there.epochs) == (result.checkpoint, result.epochs)
    pd.testing.assert_frame_equal(there.recommend(), result.recommend())
    assert type(there.model) is OwnModel


def test_another_process_reads_it(toy):
    result = run(config_dict={**SHORT, **toy})
    Path("result.pickle").write_bytes(pickle.dumps(result))
    code = (
        "import pickle; r = pickle.load(open('result.pickle', 'rb'));"
        "print(r['best_valid_score'], *r.recommend('u3', 4)['item'])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
        env=environment(), check=True,
    )  # fmt: skip
    told = [str(result["best_valid_score"]), *result.recommend("u3", 4)["item"]]
    assert done.stdout.split() == told


def test_a_run_that_kept_nothing_has_its_model_here_only(toy):
    result = run(config_dict={**SHORT, **toy}, saved=False)
    assert (result.checkpoint, result.result_file) == (None, None)
    assert len(result.recommend("u1")) == 10
    there = pickle.loads(pickle.dumps(result))
    assert there == result
    with pytest.raises(UserError, match="kept no checkpoint"):
        there.recommend("u1")


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ("u99", "users=u99: is no user of dataset=toy"),
        (["u1", "u99", 7], "users=u1,u99,7: 2 of 3 are no users of dataset=toy, 'u99' first"),
        ("[PAD]", "users=[PAD]: is no user of dataset=toy"),
        (3, "users=3: is no user of dataset=toy"),
    ],
)
def test_an_unknown_user_is_told_in_one_line(users, told, toy):
    result = run(config_dict={**SHORT, **toy}, saved=False)
    with pytest.raises(UserError) as caught:
        result.recommend(users)
    assert str(caught.value) == told
    assert len(result.recommend([])) == 0
    with pytest.raises(UserError, match="items=i99: is no item of dataset=toy"):
        result.similar("i99")


# --- checkpoints that were moved, or have classes of the user's own -------------------------------


def test_moved_data_has_to_be_named(toy):
    result = run(config_dict={**SHORT, **toy})
    before = result.recommend()
    shutil.move("dataset", "elsewhere")
    moved = Path(shutil.move(result.checkpoint, "mine.pth"))
    with pytest.raises(UserError) as caught:
        load(moved)
    assert str(caught.value) == (
        f"data_path={Path('dataset').absolute()}: mine.pth was trained on dataset=toy, which is "
        "not there now; give the data_path that it lies in"
    )
    pd.testing.assert_frame_equal(load(moved, data_path="elsewhere").recommend(), before)
    with pytest.raises(UserError, match=r"data_path=.*nowhere: mine.pth was trained on"):
        load(moved, data_path="nowhere")


def test_own_classes_have_to_be_named(toy):
    result = run(OwnModel, sampler=OwnSampler, config_dict={**SHORT, **toy})
    with pytest.raises(UserError, match="sampler=OwnSampler: is not one of this package's"):
        load(result.checkpoint, model=OwnModel)
    with pytest.raises(UserError) as caught:
        load(result.checkpoint, sampler=OwnSampler)
    assert str(caught.value) == (
        "model=OwnModel: is not one of RecBole's; give its class beside the checkpoint, "
        "model=CLASS in Python, --model=package.module:Class"
    )
    loaded = load(result.checkpoint, model=OwnModel, sampler=OwnSampler)
    pd.testing.assert_frame_equal(loaded.recommend(), result.recommend())
    with pytest.raises(UserError, match="model=LightGCN: the checkpoint is of OwnModel"):
        load(result.checkpoint, model="LightGCN", sampler=OwnSampler)


@pytest.mark.parametrize(("axis", "other"), [("sampler", "rns"), ("loss", "hinge")])
def test_another_sampler_or_loss_than_the_checkpoints_is_refused(axis, other, toy):
    result = run(sampler="dns", loss="bpr", config_dict={**SHORT, **toy})
    same = {"sampler": "dns", "loss": "bpr"}
    assert load(result.checkpoint, **same).config["sampler"] == "dns"
    with pytest.raises(UserError, match=f"{axis}={other}: the checkpoint is of {same[axis]}"):
        load(result.checkpoint, **{axis: other})


def test_own_classes_are_named_by_their_modules(toy, tmp_path, monkeypatch):
    (tmp_path / "their_model.py").write_text(
        "from recbole.model.general_recommender import BPR\nclass Mine(BPR):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from their_model import Mine

    result = run(Mine, config_dict={**SHORT, **toy})
    assert type(load(result.checkpoint, model="their_model:Mine").model) is Mine
    with pytest.raises(UserError, match="model=their_model:Other: cannot be imported"):
        load(result.checkpoint, model="their_model:Other")


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no archive"])
def test_what_is_no_checkpoint_is_refused(content, toy):
    if content is not None:
        Path("a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"^checkpoint=a.pth: must be a checkpoint"):
        load("a.pth")


def test_the_package_offers_load():
    assert recbole_hns.load is load


@pytest.mark.parametrize("content", ["", "[]", '{"of": "another program"}'])
def test_a_file_beside_a_checkpoint_that_is_no_result_is_left_out(content, toy, caplog):
    result = run(config_dict={**SHORT, **toy})
    moved = Path("moved.pth")
    shutil.copy(result.checkpoint, moved)
    moved.with_suffix(".json").write_text(content)
    caplog.set_level("WARNING")
    loaded = load(moved)
    assert loaded.result_file is None
    assert loaded["test_result"] is None
    assert loaded.recommend("u1").equals(result.recommend("u1"))
    assert "left out: result file=" in caplog.text
