"""AHNS: the candidate nearest to the target of Eq. 2, and the warning about targets."""

import math

import pytest
import torch
from fakes import bpr
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import (
    assert_learns,
    first_least,
    rows_of,
    scores,
    scores_of,
    select,
    selected,
    shared_weights,
)

from recbole_hns.errors import UserError
from recbole_hns.sampler.ahns import AHNS, SMALLEST_BASE, ahns_target

INF, NAN = math.inf, math.nan
TIES = [-3.0, -1.5, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0]


@given(
    scores(),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([0.1, 0.4, 1.0]),
    st.sampled_from([-0.5, -1.0, -2.0, -3.7]),
)
@settings(max_examples=300)
def test_selection(scores, alpha, beta, p):
    columns, _ = selected(AHNS(ahns_alpha=alpha, ahns_beta=beta, ahns_p=p), scores)
    for (positive, row), (picked,) in zip(rows_of(scores), columns, strict=True):
        base = max(positive + alpha, SMALLEST_BASE)
        target = beta * base ** (p + 1)
        distances = [abs(r - target) for r in row]
        if abs(target) > 1e6:  # differences of scores are lost beside it; the nearest is known
            assert row[picked] == max(row)
            continue
        assert distances[picked] == pytest.approx(min(distances), rel=1e-9, abs=1e-9)
        if positive in TIES and p == -1.0:
            assert picked == first_least(distances)


def test_loss_and_gradient():
    def literal(pool, u, items, pos, neg):
        target = 0.4 / max(pos.item() + 0.3, SMALLEST_BASE)
        return bpr(pos, min(neg, key=lambda r: abs(r.item() - target)))

    assert_learns(AHNS(candidate_num=9, ahns_alpha=0.3, ahns_beta=0.4), literal)


@given(scores(excluded=True))
def test_shared_candidates(scores):
    sampler = AHNS(ahns_p=-1.0, ahns_beta=0.3)
    for row, weights in zip(scores.neg.tolist(), shared_weights(sampler, scores), strict=True):
        if max(row) > -INF:
            distance = [abs(r - 0.3) for r in row]
            assert distance[weights.index(1.0)] == pytest.approx(min(distance))


def test_takes_the_first_of_two_as_near():
    sampler = AHNS(ahns_p=-1.0, ahns_beta=0.5)
    scores = scores_of([0.0, 0.0], [[3.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 9.0]])
    assert select(sampler, scores).columns.tolist() == [[1], [0]]


def test_all_negatives():
    scores = scores_of([0.5], [[-INF, 1.0, 2.0, -INF, -INF, -INF]])
    near = AHNS(candidate_num="all", ahns_p=-1.0, ahns_beta=0.15)
    assert select(near, scores).columns.tolist() == [[1]]


@given(scores(), st.sampled_from([-1, -2, -3]))
def test_without_clamp_eq_2_is_taken_literally(scores, p):
    """As the authors' program does, where a positive below -alpha has an easy negative."""
    sampler = AHNS(ahns_alpha=0.3, ahns_beta=0.4, ahns_p=p, ahns_clamp=False)
    for (positive, row), (picked,) in zip(rows_of(scores), selected(sampler, scores)[0]):
        target = 0.4 * (positive + 0.3) ** (p + 1)
        if abs(target) < 1e6:
            distances = [abs(r - target) for r in row]
            assert distances[picked] == pytest.approx(min(distances), rel=1e-9, abs=1e-9)


def test_clamp_decides_for_a_badly_scored_positive():
    scores = scores_of([-5.0], [[0.0, 3.0, -4.0]])
    assert select(AHNS(), scores).columns.tolist() == [[1]]
    assert select(AHNS(ahns_clamp=False), scores).columns.tolist() == [[0]]


@pytest.mark.parametrize("pos", [-0.5, -0.5 - 1e-300, 1e300, -1e300, INF, -INF, NAN])
@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("p", [-1, -2, -3])
def test_a_target_that_is_infinite_or_nan_selects_the_same_each_time(pos, clamp, p):
    scores = scores_of([pos] * 2, [[1.0, -3.0, -INF, 7.0]] * 2)
    sampler = AHNS(ahns_alpha=0.5, ahns_p=p, ahns_clamp=clamp)
    columns = select(sampler, scores).columns
    assert torch.equal(columns, select(sampler, scores).columns)
    assert columns[0] == columns[1]
    if not math.isnan(pos):
        assert columns[0] != 2


@pytest.mark.parametrize("p", [-0.5, -1.0, -2.0, -3.7])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_target_is_finite_and_falls_in_relative_hardness(p, alpha, dtype):
    pos = torch.tensor([-5.0, 0.0, 1e-9, 50.0], dtype=dtype)
    target = ahns_target(pos, alpha, 0.4, p)
    assert torch.isfinite(target).all()
    relative = target / (pos + alpha).clamp(min=SMALLEST_BASE)
    assert (relative[1:] <= relative[:-1]).all()  # criterion C2
    scores = scores_of(pos.tolist(), [[-1.0, 0.2, 3.0]] * 4, dtype)
    columns = select(AHNS(ahns_alpha=alpha, ahns_p=p), scores).columns
    if p < -1:
        assert columns[0].item() == 2  # a badly scored positive gets the hardest


def test_target_is_beta_everywhere_at_p_minus_1():
    pos = torch.tensor([-5.0, 0.0, 1e-9, 50.0])
    assert ahns_target(pos, 0.3, 0.7, -1.0).tolist() == pytest.approx([0.7] * 4)


def warnings(inside, epochs, first=0):
    """The warnings of a run where so many of 40 targets are among the candidates' scores."""
    sampler, found = AHNS(), []
    for epoch in range(first, epochs):
        sampler.epoch = epoch
        # in two parts; the target of 0.1 is 1 / 0.2 = 5
        neg = [[4.0, 6.0]] * inside + [[0.0, 1.0], [8.0, 9.0]] * ((40 - inside) // 2)
        for rows in (neg[:20], neg[20:]):
            select(sampler, scores_of([0.1] * 20, rows))
        found.append(sampler.epoch_warning())
    return found


def test_warns_once_where_nearly_no_target_is_among_the_scores():
    found = warnings(0, 8)
    assert [text is not None for text in found] == [False] * 4 + [True] + [False] * 3
    assert "sampler=ahns: for 100% of the positives in epoch 5" in found[4]
    assert "ahns_alpha, ahns_beta" in found[4]
    # so early, scores are near 0 and no target is among them
    assert warnings(0, 4) == [None] * 4


def test_does_not_warn_where_more_targets_are_among_them():
    assert warnings(2, 5) == [None] * 5
    assert warnings(40, 5) == [None] * 5


def test_what_counts_targets_is_not_in_the_checkpoint():
    assert not AHNS().state_dict()


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"ahns_beta": NAN}, "ahns_beta=nan"),
        ({"ahns_beta": INF}, "ahns_beta=inf"),
        ({"ahns_alpha": 0}, "ahns_alpha=0: must be a number > 0"),
        ({"ahns_p": 0}, "ahns_p=0: must be a number < 0"),
        ({"ahns_p": -2.5, "ahns_clamp": False}, "ahns_clamp=False: needs an integer ahns_p"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        AHNS(**keys)
