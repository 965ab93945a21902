"""Lists: against a slow transcription and RecBole's own, what they leave out, and blocks."""

import numpy as np
import pytest
import torch
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st
from recbole.utils.case_study import full_sort_scores

from recbole_hns import run
from recbole_hns.errors import UserError
from recbole_hns.evaluation import top_items
from recbole_hns.model.embeddings import SMALLEST_NORM
from recbole_hns.ops import devices, kernels
from recbole_hns.recommendation import lists as lists_module

MODELS = [
    ("BPR", {}),
    ("BPR", {"similarity": "cosine", "sampler": "ssm"}),
    ("LightGCN", {"n_layers": 2}),
    ("NGCF", {"message_dropout": 0.2}),
    ("SGL", {}),
    ("ConvNCF", {"sampler": "rns", "embedding_size": 64}),
]
NAMES = [f"{model}-{keys.get('similarity', 'inner')}" for model, keys in MODELS]


def trained(toy, model="BPR", **keys):
    keys = {
        **QUIET,
        **toy,
        "epochs": 1,
        "embedding_size": 8,
        "topk": 5,
        "valid_metric": "MRR@5",
    } | keys
    return run(model, config_dict=keys, saved=False)


def literal(scores, known, k):
    """Items and scores of one row: the highest first, of equal ones the first."""
    left = [j for j in range(1, len(scores)) if j not in known and scores[j] > -np.inf]
    return sorted(left, key=lambda j: (-scores[j], j))[:k]


def by_head(parts):
    found = {}
    for part in parts:
        for of, item, rank, score in zip(*part):
            found.setdefault(int(of), []).append((int(item), float(score)))
            assert rank == len(found[int(of)])
    return found


# --- the kernel -----------------------------------------------------------------------------------


@given(st.data())
def test_the_highest_of_blocks_are_those_of_a_sort(data):
    rows, items = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 700))
    k, block = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scores = rng.integers(0, data.draw(st.integers(1, 1000)), (rows, items)) * 1e4
    scores[rng.random(scores.shape) < 0.05] = -np.inf
    scores[rng.random(scores.shape) < 0.02] = np.nan
    scores = scores.astype(data.draw(st.sampled_from([np.float32, np.float64])))
    every = np.arange(1, items)
    known = [np.sort(rng.choice(every, rng.integers(0, items), False)) for _ in range(rows + 1)]
    offset = np.append(0, np.cumsum([len(each) for each in known]))
    users = rng.integers(0, rows + 1, rows)
    best, item = np.full((rows, k), -np.inf, scores.dtype), np.zeros((rows, k), np.int64)
    for first in range(1, items, block):
        part = np.ascontiguousarray(scores[:, first : first + block])
        kernels.add_highest(part, users, best, item, first, offset, np.concatenate(known))
    for row in range(rows):
        expected = literal(scores[row], set(known[users[row]].tolist()), k)
        assert item[row][item[row] > 0].tolist() == expected
        assert best[row][: len(expected)].tolist() == scores[row][expected].tolist()
        assert (best[row][len(expected) :] == -np.inf).all()


# --- lists of users -------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "keys"), MODELS, ids=NAMES)
def test_lists_are_those_of_recbole_where_it_masks_alike(model, keys, toy):
    result = trained(toy, model, **keys)
    _, network, dataset, _, _, test = result._trained
    users = np.arange(1, dataset.user_num)
    found = by_head(result.lists.of_users(users, 7))
    test.uid2history_item  # noqa: B018
    scores = full_sort_scores(users.tolist(), network, test).detach().numpy().copy()
    for u, row in zip(users.tolist(), scores):
        # RecBole leaves the items of the test part in
        known = result.lists.known[u]
        row[list(known)] = -np.inf
        expected = literal(row, known, 7)
        assert [item for item, _ in found[u]] == expected
        np.testing.assert_allclose([s for _, s in found[u]], row[expected], rtol=1e-5, atol=1e-6)


def test_no_known_item_of_any_part_is_in_a_list(toy):
    result = trained(toy)
    parts = [result._trained.train_data, result._trained.valid_data, result._trained.test_data]
    known = {
        pair
        for part in parts
        for pair in zip(*(part._dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")))
    }
    assert len(known) == len(result.dataset)
    users = np.arange(1, result.dataset.user_num)
    (part,) = result.lists.of_users(users, 39)
    pairs = set(zip(part.of.tolist(), part.item.tolist()))
    assert not pairs & known
    # all others are, in lists that are shorter than asked for
    assert len(pairs) == len(users) * (result.dataset.item_num - 1) - len(known)
    (part,) = result.lists.of_users(users, 40, keep_known=True)
    assert len(part.of) == len(users) * 40
    assert known < set(zip(part.of.tolist(), part.item.tolist()))


def test_blocks_and_parts_change_nothing(toy, monkeypatch):
    result = trained(toy)
    users = np.array([7, 3, 30, 29, 1])
    expected = by_head(result.lists.of_users(users, 6))
    monkeypatch.setattr(lists_module, "USERS", 1)
    monkeypatch.setattr(lists_module, "ITEMS", 7)
    monkeypatch.setattr(top_items, "ITEMS", 7)
    monkeypatch.setattr(lists_module, "ENTRIES", 13)
    parts = list(result.lists.of_users(users, 6))
    assert [part.of.tolist() for part in parts] == [[7] * 6 + [3] * 6, [30] * 6 + [29] * 6, [1] * 6]
    found = by_head(parts)
    for u, entries in expected.items():
        assert [item for item, _ in found[u]] == [item for item, _ in entries]
        np.testing.assert_allclose(
            *([s for _, s in each] for each in (found[u], entries)), rtol=1e-5
        )


@pytest.mark.parametrize("model", ["BPR", "ConvNCF"])
def test_another_device_gives_the_same(model, toy, monkeypatch):
    keys = {"sampler": "rns", "embedding_size": 64} if model == "ConvNCF" else {}
    result = trained(toy, model, **keys)
    users = np.arange(1, result.dataset.user_num)
    expected = by_head(result.lists.of_users(users, 30))
    monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)
    found = by_head(result.lists.of_users(users, 30))
    for u, entries in expected.items():
        assert [item for item, _ in found[u]] == [item for item, _ in entries]


def test_similar_items_are_those_of_the_highest_cosine(toy):
    result = trained(toy)
    table = result.model.item_embedding.weight.detach().double().numpy()
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), SMALLEST_NORM)
    found = by_head(result.lists.similar(np.array([4, 11]), 39))
    for item in (4, 11):
        cosines = table @ table[item]
        expected = literal(cosines, {item}, 39)
        assert [other for other, _ in found[item]] == expected
        np.testing.assert_allclose([s for _, s in found[item]], cosines[expected], atol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 41, True, 2.0, "3", None])
def test_a_length_that_is_none_is_refused(k, toy):
    result = trained(toy)
    with pytest.raises(UserError, match=r"^topk=.*: must be an integer >= 1 and <= 40"):
        result.recommend(k=k)
    with pytest.raises(UserError, match="<= 39"):
        result.similar("i1", 40)


def test_a_model_whose_numbers_are_none_is_refused(toy):
    result = trained(toy)
    with torch.no_grad():
        result.model.item_embedding.weight[3, 2] = torch.nan
    with pytest.raises(UserError, match="not all finite"):
        result.recommend()


def test_large_and_equal_scores(toy):
    result = trained(toy)
    with torch.no_grad():
        result.model.item_embedding.weight.fill_(100.0)
        result.model.user_embedding.weight.fill_(100.0)
    frame = result.recommend("u1", 5)
    assert (frame["score"] == 8e4).all()
    known = result.lists.known[result.dataset.token2id("user_id", "u1")]
    expected = [j for j in range(1, result.dataset.item_num) if j not in known][:5]
    assert frame["item"].tolist() == result.dataset.id2token("item_id", expected).tolist()


def test_an_own_model_ranks_by_its_full_sort_predict(toy):
    from recbole.model.general_recommender import BPR

    class Backwards(BPR):
        def predict(self, interaction):
            return -super().predict(interaction)

        def full_sort_predict(self, interaction):
            return -super().full_sort_predict(interaction)

    result = trained(toy, Backwards, sampler="rns")
    assert result.lists.vectors is None
    users, items = result.model.user_embedding.weight, result.model.item_embedding.weight
    found = by_head(result.lists.of_users(np.array([2, 5]), 4))
    for u in (2, 5):
        scores = -(items @ users[u]).detach().double().numpy()
        assert [item for item, _ in found[u]] == literal(scores, result.lists.known[u], 4)
    with pytest.raises(UserError, match="model=Backwards: has no vectors"):
        result.similar("i3")
