"""Serving from arrays: lists against a sort, users who are unknown, and exports that are none."""

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns.errors import UserError
from recbole_hns.serving import Recommender


def arrays(users=5, items=12, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    known = [
        np.sort(rng.choice(items, rng.integers(0, items), replace=False)) for _ in range(users)
    ]
    return {
        "user_vectors": rng.normal(size=(users, dim)).astype(np.float32),
        "item_vectors": rng.normal(size=(items, dim)).astype(np.float32),
        "known_offset": np.append(0, np.cumsum([len(each) for each in known])),
        "known_item": np.concatenate(known).astype(np.int32),
        "fold_in": rng.normal(size=(dim, dim)).astype(np.float32),
    }


def recommender(**kept):
    items = len(kept["item_vectors"])
    users = {f"u{row}": row for row in range(len(kept["user_vectors"]))}
    return Recommender(users, [f"i{row}" for row in range(items)], **kept)


def write(folder, **kept):
    folder.mkdir()
    for name, values in kept.items():
        np.save(folder / f"{name}.npy", values)
    for side in ("user", "item"):
        names = [f"{side[0]}{row}" for row in range(len(kept[f"{side}_vectors"]))]
        pyarrow.parquet.write_table(pa.table({side: names}), folder / f"{side}s.parquet")
    (folder / "export.json").write_text(json.dumps({"format": 1}))


def literal(scores, known, k):
    left = [j for j in range(len(scores)) if j not in known]
    return [f"i{j}" for j in sorted(left, key=lambda j: (-scores[j], j))[:k]]


@given(st.integers(0, 50), st.integers(1, 14))
def test_lists_are_those_of_a_sort(seed, k):
    kept = arrays(seed=seed)
    model = recommender(**kept)
    items = kept["item_vectors"].astype(np.float64)
    for row, vector in enumerate(kept["user_vectors"].astype(np.float64)):
        start, end = kept["known_offset"][row : row + 2]
        known = set(kept["known_item"][start:end].tolist())
        found = model.recommend(f"u{row}", k)
        assert [item for item, _ in found] == literal(items @ vector, known, k)
        for item, score in found:
            assert score == pytest.approx(items[int(item[1:])] @ vector, abs=1e-5)
        every = model.recommend(f"u{row}", k, keep_known=True)
        assert [item for item, _ in every] == literal(items @ vector, set(), k)
    cosines = items @ items[4] / np.linalg.norm(items, axis=1) / np.linalg.norm(items[4])
    assert [item for item, _ in model.similar("i4", k)] == literal(cosines, {4}, k)


@pytest.mark.parametrize("k", [1, 5, 12, 20])
def test_equal_and_large_scores_are_in_the_order_of_the_items(k):
    kept = arrays()
    kept["item_vectors"][:] = 1e4
    kept["user_vectors"][:] = 1e4
    kept["known_offset"][:] = 0
    kept["known_item"] = kept["known_item"][:0]
    found = recommender(**kept).recommend("u1", k)
    assert [item for item, _ in found] == [f"i{row}" for row in range(min(k, 12))]
    assert all(np.isfinite(score) for _, score in found)


def test_an_unknown_user_is_recommended_by_the_items_they_know():
    kept = arrays()
    model = recommender(**kept)
    rows = [2, 7, 9]
    vector = sum(kept["item_vectors"][row].astype(np.float64) for row in rows) / 3**0.5
    scores = kept["item_vectors"] @ (vector @ kept["fold_in"])
    found = model.recommend_from(["i7", "i2", "unheard", "i9", "i2"], 5)
    assert [item for item, _ in found] == literal(scores, set(rows), 5)
    with pytest.raises(UserError, match=r"^items=unheard: the model knows none"):
        model.recommend_from(["unheard"])
    with pytest.raises(UserError, match=r"^items=: the model knows none"):
        model.recommend_from([])
    assert model.recommend_from("i3", 3) == model.recommend_from(["i3"], 3)


def test_who_and_what_is_unknown_is_told():
    model = recommender(**arrays())
    assert "u1" in model
    assert "u9" not in model
    with pytest.raises(UserError, match=r"^user=u9: is not known to the model; recommend_from"):
        model.recommend("u9")
    with pytest.raises(UserError, match=r"^item=i99: is not known"):
        model.similar("i99")
    for k in (0, -1, 2.5, True, "3"):
        with pytest.raises(UserError, match=r"^k=.*must be an integer >= 1"):
            model.recommend("u1", k)


def test_names_may_be_numbers(tmp_path):
    kept = arrays()
    names = [str(row) for row in range(12)]
    model = Recommender({"7": 0}, names, **{**kept, "user_vectors": kept["user_vectors"][:1]})
    assert model.recommend(7, 3) == model.recommend("7", 3)
    assert model.similar(4, 2) == model.similar("4", 2)
    assert (
        model.recommend_from(4, 2) == model.recommend_from("4", 2) == model.recommend_from([4], 2)
    )


def test_what_is_written_is_read(tmp_path):
    kept = arrays()
    write(tmp_path / "served", **kept)
    model, expected = Recommender.load(tmp_path / "served"), recommender(**kept)
    answers = {}

    def ask(user):
        answers[user] = model.recommend(user, 5)

    threads = [threading.Thread(target=ask, args=(f"u{row}",)) for row in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {f"u{row}": expected.recommend(f"u{row}", 5) for row in range(5)}


def other(name, values):
    return lambda folder: np.save(folder / f"{name}.npy", values)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "export.json").unlink(), "No such file"),
        (lambda folder: (folder / "export.json").write_text("{"), ""),
        (lambda folder: (folder / "export.json").write_text("[]"), "format"),
        (lambda folder: (folder / "export.json").write_text('{"format": 2}'), "format is not 1"),
        (lambda folder: (folder / "items.parquet").write_bytes(b"PAR1"), ""),
        (lambda folder: (folder / "fold_in.npy").write_bytes(b"\x93NUMPY"), ""),
        (other("fold_in", np.array([object()])), ""),
        (other("fold_in", np.zeros((2, 3))), "do not fit"),
        (other("user_vectors", np.zeros((5, 4))), "do not fit"),
        (other("user_vectors", np.zeros(5)), "do not fit"),
        (other("item_vectors", np.zeros(())), ""),
        (other("known_item", np.array([12])), "known items"),
        (other("known_item", np.array([-1])), "known items"),
        (other("known_offset", np.array([0, 9, 3, 4, 5, 0])), "known items"),
        (other("known_offset", np.zeros(6)), "no whole numbers"),
    ],
)
def test_what_is_no_export_is_refused(change, told, tmp_path):
    folder = tmp_path / "served"
    write(folder, **arrays())
    change(folder)
    with pytest.raises(UserError) as caught:
        Recommender.load(folder)
    assert str(caught.value).startswith(f"directory={folder}: must be a directory that recbole-hns")
    assert told in str(caught.value)


def test_a_directory_that_is_none(tmp_path):
    with pytest.raises(UserError, match="must be a directory that recbole-hns export wrote"):
        Recommender.load(Path("nowhere"))
