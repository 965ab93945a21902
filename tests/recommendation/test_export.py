"""Exports: what is in them, what serves them, and the fold-in of users who were unknown."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import QUIET, environment

from recbole_hns import run
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.recommendation.export import RIDGE, export, fold_in
from recbole_hns.serving import Recommender

SHORT = {**QUIET, "epochs": 2, "embedding_size": 8, "topk": 5, "valid_metric": "MRR@5"}

FILES = {
    "README.md", "export.json", "fold_in.npy", "item_vectors.npy", "items.parquet",
    "known_item.npy", "known_offset.npy", "user_vectors.npy", "users.parquet",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "keys"),
    [("BPR", {}), ("BPR", {"similarity": "cosine", "loss": "softmax"}), ("LightGCN", {})],
)
def test_an_export_gives_the_same_lists(model, keys, toy):
    result = run(model, config_dict={**SHORT, **toy, **keys})
    export(result.checkpoint, "served")
    assert {path.name for path in Path("served").iterdir()} == FILES
    served = Recommender.load("served")
    for keep_known in (False, True):
        for user, part in result.recommend(k=40, keep_known=keep_known).groupby("user"):
            found = served.recommend(user, 40, keep_known)
            assert [item for item, _ in found] == part["item"].tolist()
            np.testing.assert_allclose([s for _, s in found], part["score"], atol=1e-5)
    assert [item for item, _ in served.similar("i3", 6)] == result.similar("i3", 6)["item"].tolist()


def test_what_an_export_holds(toy, capsys):
    result = run(config_dict={**SHORT, **toy, "state": "ERROR"})
    capsys.readouterr()
    assert main(["export", f"--checkpoint={result.checkpoint}", "--output=a/served"]) == 0
    assert capsys.readouterr().out == "30 users, 40 items, 8 dimensions: a/served\n"
    folder = Path("a/served")
    items = pd.read_parquet(folder / "items.parquet")["item"].tolist()
    users = pd.read_parquet(folder / "users.parquet")["user"].tolist()
    table = np.load(folder / "item_vectors.npy")
    offset, known = (np.load(folder / f"known_{name}.npy") for name in ("offset", "item"))
    np.testing.assert_array_equal(table, result.model.item_embedding.weight.detach()[1:])
    for row, user in enumerate(users):
        ids = result.lists.known[result.dataset.token2id("user_id", user)]
        names = result.dataset.id2token("item_id", sorted(ids)).tolist()
        assert [items[j] for j in known[offset[row] : offset[row + 1]]] == names
    facts = json.loads((folder / "export.json").read_text())
    assert (facts["format"], facts["users"], facts["items"], facts["dim"]) == (1, 30, 40, 8)
    card = (folder / "README.md").read_text()
    for text in (
        "# BPR on toy", "| items ", "| 40 ", "dns_m", "2 epochs in", "MRR@5 was best",
        f"{result['test_result']['mrr@5']:.4f}", f"{result['best_valid_result']['mrr@5']:.4f}",
        "model.recommend(\"", "recbole, version",
    ):  # fmt: skip
        assert text in card
    assert "data_path" not in card


def test_a_card_without_a_test_says_why(toy):
    result = run(config_dict={**SHORT, **toy, "protocol": "all"})
    export(result.checkpoint, "served")
    card = Path("served/README.md").read_text()
    assert "Protocol all: trained on every interaction, nothing is selected" in card
    assert "the model is that of the last" in card


def test_an_index_finds_what_is_best(toy):
    faiss = pytest.importorskip("faiss")
    result = run(config_dict={**SHORT, **toy})
    export(result.checkpoint, "served", index=True)
    index = faiss.read_index("served/items.faiss")
    users, items = (np.load(f"served/{side}_vectors.npy") for side in ("user", "item"))
    assert (index.ntotal, index.hnsw.efSearch) == (40, 256)
    scores, rows = index.search(users, 5)
    np.testing.assert_array_equal(rows, np.argsort(-(users @ items.T), axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-(users @ items.T), axis=1)[:, :5], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--checkpoint=C"], "--output: is needed"),
        (["--output=served"], "--checkpoint: is needed"),
        (["--checkpoint=no.pth", "--output=served"], "checkpoint=no.pth: must be a checkpoint"),
        (["--checkpoint=C", "--output=saved"], "output=saved: exists already"),
        (["--checkpoint=C", "--output=file/served"], "output=file/served: must be a directory"),
        (["--checkpoint=C", "--output=served", "--index"], "index=True: needs faiss: pip install"),
        (["--checkpoint=C", "--output=served", "--indx"], "indx"),
    ],
)
def test_mistakes_of_export(arguments, told, toy, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    result = run(config_dict={**SHORT, **toy})
    Path("file").touch()
    given = [each.replace("=C", f"={result.checkpoint}") for each in arguments]
    capsys.readouterr()
    assert main(["export", *given]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert told in err[0]
    assert not Path("served").exists()


def test_a_model_without_vectors_is_refused(toy):
    keys = {"sampler": "rns", "embedding_size": 64, "epochs": 1}
    result = run("ConvNCF", config_dict={**SHORT, **toy, **keys})
    with pytest.raises(UserError, match="model=ConvNCF: has no vectors of users and items"):
        export(result.checkpoint, "served")
    assert not Path("served").exists()


# --- users who were unknown at training -----------------------------------------------------------


def test_the_fold_in_is_the_ridge_regression():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(50, 6)), rng.normal(size=(30, 6))
    known = [rng.choice(30, rng.integers(0, 9), replace=False) for _ in range(50)]
    offset = np.append(0, np.cumsum([len(each) for each in known]))
    found = fold_in(
        users.astype(np.float32), items.astype(np.float32), offset, np.concatenate(known)
    )
    items = items.astype(np.float32).astype(np.float64)
    active = [u for u in range(50) if len(known[u])]
    x = np.array([sum(items[j] for j in known[u]) / len(known[u]) ** 0.5 for u in active])
    ridge = RIDGE * np.linalg.eigvalsh(x.T @ x).mean()
    # as further rows of a plain least squares problem
    rows = np.vstack([x, ridge**0.5 * np.eye(6)])
    targets = np.vstack([users[active], np.zeros((6, 6))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_the_fold_in_takes_some_users_at_a_time(at_once, monkeypatch):
    rng = np.random.default_rng(1)
    users, items = (rng.normal(size=(n, 3)).astype(np.float32) for n in (20, 9))
    known = [np.arange(n % 4) for n in range(20)]
    offset = np.append(0, np.cumsum([len(each) for each in known]))
    expected = fold_in(users, items, offset, np.concatenate(known))
    monkeypatch.setattr("recbole_hns.recommendation.export.USERS_AT_ONCE", at_once)
    found = fold_in(users, items, offset, np.concatenate(known))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_the_fold_in_of_any_vectors_is_finite(scale):
    vectors = np.full((5, 3), scale, np.float32)
    offset, known = np.arange(6), np.arange(5)
    assert np.isfinite(fold_in(vectors, vectors, offset, known)).all()
    assert np.isfinite(fold_in(vectors, vectors, np.zeros(6, int), known[:0])).all()


SERVE = """
import sys
MISSING = {'torch', 'recbole', 'ray', 'pandas', 'scipy', 'pydantic', 'numba'}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in MISSING:
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
from recbole_hns.serving import Recommender
print(*(item for item, _ in Recommender.load('served').recommend('u3', 4)))
"""


def test_an_export_is_served_without_what_trained_it(toy):
    result = run(config_dict={**SHORT, **toy})
    export(result.checkpoint, "served")
    done = subprocess.run(
        [sys.executable, "-c", SERVE], capture_output=True, text=True, env=environment()
    )
    assert done.stdout.split() == result.recommend("u3", 4)["item"].tolist(), done.stderr


def test_a_card_lists_no_eval_args_that_are_the_default(toy):
    toy = {key: value for key, value in toy.items() if key != "eval_args"}
    for number, (mode, shown) in enumerate((("full", False), ("uni20", True))):
        result = run(config_dict={**SHORT, **toy, "eval_args": {"mode": mode}})
        export(result.checkpoint, f"served{number}")
        assert ("eval_args" in Path(f"served{number}/README.md").read_text()) == shown
