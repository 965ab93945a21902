"""WARP: the law of its trials, the rank's weight, and the hinge loss."""

import math

import numpy as np
import pytest
import torch
from fakes import assert_draws_what_is_left, assert_finite_step, set_up, toy_pool
from scipy.stats import chisquare
from scored import assert_learns, candidates_of, loss_of, scores_of, select

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.hinge import Hinge
from recbole_hns.sampler.warp import WARP

INF, NAN = math.inf, math.nan


def harmonic(k):
    return sum(1 / s for s in range(1, k + 1))


def select_among(sampler, scores, negative_num, shared=False):
    """What is selected for users with so many negatives."""
    sampler.setup(type("Model", (), {"n_items": 100}), 1)
    num = torch.full((len(scores.neg), 1), negative_num)
    return select(sampler, scores, candidates_of(scores, shared=shared, negative_num=num))


def losses(sampler, scores, selection):
    """Of each row, those without a loss being 0, from a batch of one."""
    picked = Scores(scores.pos, scores.neg.gather(1, selection.columns))
    rows, found = torch.arange(1), []
    for row in range(len(picked.pos)):
        one = Scores(picked.pos[[row]], picked.neg[[row]])
        negatives = Negatives(None, one, None, selection.scale[[row]])
        found.append(loss_of(sampler)(one, negatives, Batch.of(rows, rows)))
    return torch.stack(found)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing, normalize):
    def literal(pool, u, items, pos, neg):
        negative_num, trial = pool.item_num - 1 - len(pool.used[u]), 0
        for j, r in zip(items, neg, strict=True):
            if j in pool.used[u]:
                continue  # this is no trial
            trial += 1
            if r.item() > pos.item() - 0.5:
                weight = harmonic(max(1, negative_num // trial))
                weight /= harmonic(negative_num) if normalize else 1
                return weight * (0.5 - pos + r)
        return 0 * pos

    keys = {"candidate_sharing": sharing, "warp_normalize": normalize}
    assert_learns(WARP(warp_max_trials=7, warp_margin=0.5, **keys), literal)


@pytest.mark.parametrize(("violating", "cap"), [(1, 9), (5, 9), (17, 30), (60, 4)])
def test_trials_follow_the_law_of_the_loop(violating, cap):
    negatives, num = 60, 20_000
    violates = torch.rand(num, cap) < violating / negatives
    # a score at the margin does not violate it
    scores = Scores(torch.full((num, 1), 0.5), violates * 1.5 - 0.5)
    columns, weight, scale = select_among(WARP(warp_max_trials=cap), scores, negatives)
    assert weight is None
    p, trial = violating / negatives, columns.squeeze(1)
    law = [p * (1 - p) ** t for t in range(cap)] + [(1 - p) ** cap]
    found = np.bincount(np.where(scale > 0, trial, cap), minlength=cap + 1)
    expected = num * np.array(law)
    possible = expected > 0
    assert found[~possible].sum() == 0
    if possible.sum() > 1:
        assert chisquare(found[possible], expected[possible]).pvalue > 0.001
    for t, factor in zip(trial.tolist()[:200], scale.tolist(), strict=False):
        if factor:
            assert factor == pytest.approx(harmonic(max(1, negatives // (t + 1))), rel=1e-6)


def test_all_violate():
    scores = scores_of([0.5] * 3, [[1.0] * 9] * 3)
    selection = select_among(WARP(warp_normalize=True), scores, 60)
    assert selection.columns.tolist() == [[0]] * 3
    assert selection.scale.tolist() == [1.0] * 3


def test_none_violates():
    scores = scores_of([0.5] * 3, [[-0.5] * 9] * 3)
    for each in scores:
        each.requires_grad_()
    found = losses(WARP(), scores, select_among(WARP(), scores, 60))
    found.sum().backward()
    assert not found.any()
    assert not scores.pos.grad.any()
    assert not scores.neg.grad.any()


def test_excluded_candidates_are_no_trials():
    """k = 40 / 2 for the second of those that are negatives."""
    scores = scores_of([5.0, 5.0], [[-INF, 0.0, -INF, 4.5], [-INF] * 4])
    columns, _, scale = select_among(WARP(), scores, 40, shared=True)
    assert columns[0].item() == 3
    assert scale.tolist() == [pytest.approx(harmonic(20)), 0.0]


@pytest.mark.parametrize("pos", [NAN, -INF, INF])
def test_a_positive_whose_score_is_not_finite_has_no_loss(pos):
    scores = scores_of([pos], [[0.0] * 9])
    assert losses(WARP(), scores, select_among(WARP(), scores, 60)).tolist() == [0]


def test_scored_num_is_the_number_of_trials():
    assert WARP(warp_max_trials=9).scored_num(1000, 64) == 9


def test_negatives_of_each_user():
    sampler = WARP()
    pool = set_up(sampler, toy_pool())
    user = torch.arange(1, 31)
    found = sampler.propose(Batch.of(user, user), None, pool).negative_num
    assert found.tolist() == [[40 - len(pool.used[u])] for u in range(1, 31)]


def test_one_negative_left():
    assert_draws_what_is_left(WARP())


@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(WARP(), Hinge(), scale)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"warp_margin": 0}, "warp_margin=0: must be a number > 0"),
        ({"warp_max_trials": 0}, "warp_max_trials=0: must be an integer > 0"),
        ({"warp_normalize": 2}, "warp_normalize=2: must be True or False"),
        ({"candidate_num": 2}, "candidate_num=2: must be 1"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        WARP(**keys)
