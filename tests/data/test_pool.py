"""The pool: draws exactly by distribution, never an item of the user's, and the users' items."""

import math
import pickle

import numpy as np
import pytest
import torch
from fake_dataset import dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from recbole_hns.data import NegativePool
from recbole_hns.data import pool as module
from recbole_hns.data.interactions import UsedItems


def pool_of(pairs, user_num, item_num, distribution="uniform", alpha=1.0):
    pool = NegativePool.of(dataset(pairs, user_num, item_num))
    return pool.with_distribution(distribution, alpha)


@pytest.fixture(params=["mask", "hashed", "search"])
def path(request, monkeypatch):
    """All ways of drawing: with a bit for each pair, for several, and with no mask."""
    if request.param == "hashed":
        monkeypatch.setattr(module, "BITS_PER_INTERACTION", 1)
    if request.param == "mask":
        monkeypatch.setattr(module, "BITS_PER_INTERACTION", 2**20)
    if request.param == "search":
        monkeypatch.setattr(module._Tables, "mask", None)
    return request.param


def random_pairs(rng, user_num, item_num, most):
    return [
        (u, i)
        for u in range(1, user_num)
        for i in rng.choice(np.arange(1, item_num), rng.integers(1, most), replace=False)
    ]


def test_uniform_over_each_users_allowed_items(path):
    rng = np.random.default_rng(0)
    pairs = random_pairs(rng, 6, 23, 15)
    pool = pool_of(pairs, 6, 23)
    for user in range(1, 6):
        drawn = pool.draw(torch.full((400,), user), 250)
        assert drawn.shape == (400, 250)
        counts = np.bincount(drawn.numpy().ravel(), minlength=23)
        allowed = sorted(set(range(1, 23)) - {i for u, i in pairs if u == user})
        assert counts.sum() == counts[allowed].sum()
        assert chisquare(counts[allowed]).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0, 2.0, None])
def test_popularity_power_over_each_users_allowed_items(path, alpha):
    rng = np.random.default_rng(1)
    pairs = random_pairs(rng, 9, 15, 9)
    pairs = [(u, i) for u, i in pairs if i != 4]  # an item without interactions
    popularity = np.bincount([i for _, i in pairs], minlength=15)
    pool = pool_of(pairs, 9, 15, "popularity", alpha)
    for user in (1, 4, 8):
        counts = np.bincount(pool.draw(torch.full((300,), user), 400).ravel(), minlength=15)
        own = {i for u, i in pairs if u == user}
        allowed = [i for i in range(1, 15) if i not in own and popularity[i]]
        expected = popularity[allowed].astype(float)
        expected = np.log1p(expected) if alpha is None else expected**alpha
        expected *= counts.sum() / expected.sum()
        assert counts.sum() == counts[allowed].sum()
        assert chisquare(counts[allowed], expected).pvalue > 1e-4


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("item_num", [2, 15, 3000])
def test_draws_for_all_users_and_the_mass_they_go_by(distribution, item_num):
    rng = np.random.default_rng(3)
    pairs = [(u, i) for u, i in random_pairs(rng, 9, item_num, min(item_num, 9)) if i != 4]
    popularity = np.bincount([i for _, i in pairs], minlength=item_num)
    pool = pool_of(pairs, 9, item_num, distribution, 1.5)
    mass = popularity**1.5 if distribution == "popularity" else np.arange(item_num) > 0
    drawn = pool.draw_shared(100_000, torch.device("cpu"))
    counts = np.bincount(drawn, minlength=item_num)
    possible = np.flatnonzero(mass)
    assert counts.sum() == counts[possible].sum()
    expected = counts.sum() * mass[possible] / mass.sum()
    assert len(possible) == 1 or chisquare(counts[possible], expected).pvalue > 1e-4
    share = np.exp(pool.log_mass(torch.from_numpy(possible)).double().numpy())
    np.testing.assert_allclose(share / share.sum(), mass[possible] / mass.sum(), rtol=1e-5)


@pytest.mark.parametrize("item_num", [2, 15, 3000])
def test_a_uniform_draw_for_all_users_is_where_its_fraction_of_the_items_lies(item_num):
    pool = pool_of([(1, 1)], 3, item_num)
    torch.manual_seed(5)
    drawn = pool.draw_shared(1000, torch.device("cpu"))
    torch.manual_seed(5)
    fractions = torch.rand(1000, dtype=torch.float64)
    assert drawn.tolist() == [1 + math.floor(x * (item_num - 1)) for x in fractions.tolist()]


def test_what_the_users_have_used():
    pairs = [(1, 2), (1, 5), (3, 1)]
    pool = pool_of(pairs, 5, 6)
    user, item = torch.arange(5).unsqueeze(1), torch.arange(6)
    assert pool.is_used(user, item).nonzero().tolist() == [list(pair) for pair in pairs]
    assert pool.negative_num(torch.arange(5)).tolist() == [5, 3, 5, 4, 5]


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_no_training_item_in_ten_million_draws(path, distribution):
    rng = np.random.default_rng(2)
    user_num, item_num = 500, 300
    pairs = random_pairs(rng, user_num, item_num, 290)
    used = np.zeros((user_num, item_num), dtype=bool)
    used[tuple(np.array(pairs).T)] = True
    pool = pool_of(pairs, user_num, item_num, distribution, 0.75)
    for _ in range(5):
        user = torch.randint(1, user_num, (10_000,))
        drawn = pool.draw(user, 200)
        assert drawn.min() >= 1
        assert drawn.max() < item_num
        assert not used[user.unsqueeze(1), drawn].any()


@given(st.data())
@settings(max_examples=50)
def test_draws_stay_allowed_on_any_data(data):
    item_num = data.draw(st.integers(3, 20))
    items = st.sets(st.integers(1, item_num - 1), max_size=item_num - 2)
    rows = data.draw(st.lists(items, min_size=1, max_size=5))
    pairs = [(u, i) for u, row in enumerate(rows) for i in row] or [(0, 1)]
    pool = pool_of(pairs, len(rows), item_num)
    drawn = pool.draw(torch.arange(len(rows)), 30)
    for row, own in zip(drawn.tolist(), rows, strict=True):
        assert not set(row) & own
        assert all(1 <= i < item_num for i in row)


def test_a_user_with_one_item_left(path):
    pairs = [(1, i) for i in range(1, 50) if i != 17] + [(2, 3)]
    pool = pool_of(pairs, 3, 50)
    assert (pool.draw(torch.ones(100, dtype=torch.int64), 100) == 17).all()


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_a_user_with_all_items_is_an_error(distribution):
    pool = pool_of([(1, 1), (1, 2), (2, 1)], 3, 3, distribution)
    with pytest.raises(ValueError, match=r"user token1 .* has interacted with every item"):
        pool.check()


@pytest.mark.parametrize("alpha", [1000.0, 1e6])
def test_a_steep_power_leaves_every_item_a_chance(alpha):
    rng = np.random.default_rng(4)
    pairs = random_pairs(rng, 40, 30, 29)
    pool = pool_of(pairs, 40, 30, "popularity", alpha)
    pool.check()
    drawn = pool.draw(torch.arange(1, 40), 100)
    for user, row in enumerate(drawn.tolist(), start=1):
        assert not set(row) & pool.used[user]


def test_popularity_mass_does_not_overflow():
    pairs = [(u, 1 + (u * 7 + k) % 1000) for u in range(1, 5000) for k in range(40)]
    pool = pool_of(pairs, 5000, 1001, "popularity", 1.0)
    drawn = pool.draw(torch.arange(1, 5000), 50)
    for user in (1, 2499, 4999):
        assert not set(drawn[user - 1].tolist()) & pool.used[user]


def test_exclude_marks_padding_and_used_items():
    rng = np.random.default_rng(3)
    pairs = random_pairs(rng, 7, 11, 8)
    pool = pool_of(pairs, 7, 11)
    user = torch.tensor([3, 1, 3, 6])
    scores = pool.exclude(user, torch.zeros(4, 11))
    for row, u in zip(scores.tolist(), user.tolist(), strict=True):
        out = {i for i, score in enumerate(row) if score == -np.inf}
        assert out == {0} | {i for v, i in pairs if v == u}


@st.composite
def interactions(draw):
    """Numbers of users and items, and a set of pairs of them, none with the padding item."""
    user_num, item_num = draw(st.integers(2, 8)), draw(st.integers(2, 12))
    pair = st.tuples(st.integers(0, user_num - 1), st.integers(1, item_num - 1))
    return user_num, item_num, draw(st.sets(pair, min_size=1))


@given(st.data(), interactions())
def test_own_items_are_a_rows_used_items_and_padding(data, some):
    user_num, item_num, pairs = some
    user = data.draw(st.lists(st.integers(0, user_num - 1), max_size=9))
    found = pool_of(pairs, user_num, item_num).own_items(torch.tensor(user, dtype=torch.int64))
    expected = [
        (row, item)
        for row, u in enumerate(user)
        for item in range(item_num)
        if item == 0 or (u, item) in pairs
    ]
    assert all(part.dtype == torch.int64 for part in found)
    assert sorted(zip(*(part.tolist() for part in found))) == expected


@given(st.data(), interactions(), st.booleans())
def test_own_columns_are_those_of_shared_items_that_are_no_negatives(data, some, flat):
    user_num, item_num, pairs = some
    user = data.draw(st.lists(st.integers(0, user_num - 1), max_size=9))
    # more items than there are: some are repeated
    items = data.draw(st.lists(st.integers(0, item_num - 1), max_size=30))
    shared = torch.tensor(items, dtype=torch.int64)
    found = pool_of(pairs, user_num, item_num).own_columns(
        torch.tensor(user, dtype=torch.int64), shared if flat else shared[None]
    )
    expected = [
        (row, column)
        for row, u in enumerate(user)
        for column, item in enumerate(items)
        if item == 0 or (u, item) in pairs
    ]
    assert all(part.dtype == torch.int64 for part in found)
    assert sorted(zip(*(part.tolist() for part in found))) == expected


def test_a_pool_of_another_distribution_is_a_copy():
    pool = pool_of([(1, 2), (1, 3), (2, 2), (3, 2)], 4, 6)
    popular = pool.with_distribution("popularity", 0.5)
    assert (popular.distribution, popular.alpha) == ("popularity", 0.5)
    assert set(popular.draw_shared(200, torch.device("cpu")).tolist()) == {2, 3}
    assert set(pool.draw_shared(200, torch.device("cpu")).tolist()) == {1, 2, 3, 4, 5}
    # what draws nothing from the pool needs no tables of its own
    assert pool.with_distribution("in_batch", 0.5) is pool
    assert popular.with_distribution("in_batch", 0.5).distribution == "uniform"
    with pytest.raises(NotImplementedError, match=r"\[zipf\]"):
        pool.with_distribution("zipf", 1.0)


def test_a_pickled_pool_draws_the_same(path):
    pool = pool_of([(1, 2), (2, 3), (2, 5)], 3, 6, "popularity", None)
    user = torch.tensor([1, 2, 2, 1])
    # the stand-in for RecBole's data set holds a lambda, which cannot be pickled
    pool._dataset = None
    torch.manual_seed(1)
    expected = pool.draw(user, 7)
    torch.manual_seed(1)
    assert pickle.loads(pickle.dumps(pool)).draw(user, 7).equal(expected)


@given(st.data())
@settings(max_examples=100)
def test_the_mask_knows_every_interaction_and_no_other(data):
    user_num, item_num = data.draw(st.integers(2, 30)), data.draw(st.integers(2, 40))
    pairs = data.draw(
        st.sets(st.tuples(st.integers(0, user_num - 1), st.integers(0, item_num - 1)), min_size=1)
    )
    user, item = np.array(sorted(pairs)).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BITS_PER_INTERACTION", data.draw(st.sampled_from([1, 4, 2**20])))
        mask = module.UsedMask(UsedItems(user, item, user_num, item_num), item_num)
    hits = mask.hits(torch.arange(user_num), torch.arange(item_num).repeat(user_num, 1))
    assert {(int(h) // item_num, int(h) % item_num) for h in hits} == pairs
