"""DNS(M,N): the M highest-scored candidates, their weights, and a draw from them."""

import math

import pytest
import torch
from fakes import bpr, mean
from hypothesis import given
from hypothesis import strategies as st
from scored import (
    assert_learns,
    candidates_of,
    scores,
    scores_of,
    select,
    selected,
    shared_weights,
)

from recbole_hns.errors import UserError
from recbole_hns.sampler.dns_mn import DNSMN

INF = math.inf


@given(scores(), st.integers(1, 9))
def test_mean(scores, m):
    n = scores.neg.shape[1]
    m = min(m, n)
    columns, weight = selected(DNSMN(candidate_num=n, dns_m=m), scores)
    for row, picked, weights in zip(scores.neg.tolist(), columns, weight, strict=True):
        assert len(set(picked)) == m
        # which of equal scores are taken is left open, their values are not
        assert sorted((row[j] for j in picked), reverse=True) == sorted(row, reverse=True)[:m]
        assert weights == pytest.approx([1 / m] * m)


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing):
    def literal(pool, u, items, pos, neg):
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        hardest = sorted(inside, key=lambda r: -r.item())[:3]
        return mean([bpr(pos, r) for r in hardest]) if hardest else 0 * pos

    assert_learns(DNSMN(candidate_num=9, dns_m=3, candidate_sharing=sharing), literal)


def test_loss_and_gradient_with_a_fraction_of_the_batch():
    def literal(pool, u, items, pos, neg):
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        m = max(1, round(0.25 * len(inside)))
        return mean([bpr(pos, r) for r in sorted(inside, key=lambda r: -r.item())[:m]])

    # whatever candidate_num is, which has no part
    keys = {"candidate_num": 2, "candidate_distribution": "in_batch"}
    assert_learns(DNSMN(opauc_beta=0.25, **keys), literal)
    DNSMN(dns_m=3, **keys)


def test_draw_takes_each_of_the_m_alike():
    sampler = DNSMN(candidate_num=6, dns_m=3, dns_mode="draw")
    scores = scores_of([0.0] * 6000, [[0.0, 5.0, 1.0, 4.0, 3.0, 2.0]] * 6000)
    columns, weight, _ = select(sampler, scores)
    assert weight is None
    assert columns.shape == (6000, 1)
    assert_alike(columns, [1, 3, 4], 6)


def test_draw_takes_each_of_the_negatives_left_alike():
    """Of M = 3, two candidates are negatives."""
    sampler = DNSMN(candidate_num=6, dns_m=3, dns_mode="draw")
    scores = scores_of([0.0] * 6000, [[-INF, 5.0, -INF, -INF, -INF, 2.0]] * 6000)
    assert_alike(select(sampler, scores).columns, [1, 5], 6)


def assert_alike(columns, expected, num):
    counts = torch.bincount(columns.view(-1), minlength=num)
    assert counts.sum() == counts[expected].sum()
    each = len(columns) / len(expected)
    # above the 0.1% point of 2 degrees of freedom
    assert ((counts[expected] - each) ** 2 / each).sum() < 13.8


@given(scores(excluded=True), st.integers(1, 9))
def test_shared_candidates(scores, m):
    """M of a row's own negatives, all of them where there are fewer, none where there is none."""
    n = scores.neg.shape[1]
    m = min(m, n)
    weights = shared_weights(DNSMN(candidate_num=n, dns_m=m), scores)
    for row, found in zip(scores.neg.tolist(), weights, strict=True):
        hardest = sorted((r for r in row if r > -INF), reverse=True)[:m]
        used = [(r, w) for r, w in zip(row, found, strict=True) if w]
        assert sorted((r for r, _ in used), reverse=True) == hardest
        assert all(w == pytest.approx(1 / len(hardest)) for _, w in used)
    drawn = shared_weights(DNSMN(candidate_num=n, dns_m=m, dns_mode="draw"), scores)
    for found, mean_weights in zip(drawn, weights, strict=True):
        assert sorted(found, reverse=True)[: 1 if any(mean_weights) else 0] in ([1.0], [])


@pytest.mark.parametrize("mode", ["mean", "draw"])
def test_all_negatives_have_m_of_each_user(mode):
    scores = scores_of(
        [0.0, 0.0], [[-INF, *map(float, range(8))], [-INF, 0.0, 1.0, 2.0, 3.0] + [-INF] * 4]
    )
    sampler = DNSMN(candidate_num="all", opauc_beta=0.5, dns_mode=mode)
    for _ in range(20):
        columns, weight, _ = select(sampler, scores)
        if mode == "draw":
            assert columns[0].item() in (5, 6, 7, 8)
            assert columns[1].item() in (3, 4)
        else:
            assert set(columns[0].tolist()) == {5, 6, 7, 8}
            assert weight[0].tolist() == [0.25] * 4
            assert {i for i, w in zip(columns[1].tolist(), weight[1].tolist()) if w} == {3, 4}
            assert weight[1].sum() == 1


@pytest.mark.parametrize("mode", ["mean", "draw"])
def test_a_row_without_negatives(mode):
    scores = scores_of([0.0], [[-INF] * 4])
    sampler = DNSMN(candidate_num=4, dns_m=2, dns_mode=mode)
    columns, weight, _ = select(sampler, scores, candidates_of(scores, shared=True))
    assert ((columns >= 0) & (columns < 4)).all()
    assert weight is None or torch.isfinite(weight).all()
    assert shared_weights(sampler, scores) == [[0.0] * 4]


def test_opauc_beta_sets_m():
    assert DNSMN(candidate_num=200, opauc_beta=0.05).dns_m == 10


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"opauc_beta": 0.5, "dns_m": 3}, "dns_m=3: opauc_beta=0.5 sets it; give only one"),
        ({"candidate_num": 100, "opauc_beta": 0.001}, "opauc_beta=0.001: must be >= 1/candidate"),
        ({"candidate_num": 5, "dns_m": 6}, "dns_m=6: must be <= candidate_num=5"),
        ({"dns_m": 0}, "dns_m=0: must be an integer > 0"),
        ({"dns_mode": "sum"}, "dns_mode=sum: must be mean or draw"),
        ({"opauc_beta": 1.5}, "opauc_beta=1.5: must be a number > 0 and <= 1 or unset"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        DNSMN(**keys)
