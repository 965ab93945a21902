"""PRIS: its proposals, log q and importance weights."""

import math

import numpy as np
import pytest
import torch
from fakes import (
    FakeEncoded,
    assert_drawn_by,
    assert_draws_what_is_left,
    assert_finite_step,
    bpr,
    set_up,
    toy_pool,
)
from hypothesis import given
from scored import assert_learns, candidates_of, scores, select, shared_weights

from recbole_hns.batch import Batch, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.pris import PRIS
from recbole_hns.sampler.softmax import Softmax

USER = 7


def counts(pool):
    return np.bincount(pool.used.item, minlength=pool.item_num)


def propose(sampler, num):
    """What ``num`` positives of USER draw, from which pool, and USER's negatives."""
    pool = set_up(sampler, toy_pool())
    user = torch.full((num,), USER)
    negatives = [j for j in range(1, pool.item_num) if j not in pool.used[USER]]
    return sampler.propose(Batch.of(user, user), None, pool), pool, negatives


@pytest.mark.parametrize("sharing", ["row", "batch"])
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_loss_and_gradient(distribution, sharing):
    def literal(pool, u, items, pos, neg):
        inside = [(r, j) for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        count, power = counts(pool), []
        for r, j in inside:
            q = math.log(1 + count[j]) if distribution == "popularity" else 1
            power.append(math.exp(r.item() / 0.5) / q)
        losses = [bpr(pos, r) for r, _ in inside]
        return sum(p / sum(power) * x for p, x in zip(power, losses, strict=True)) + 0 * pos

    keys = {"candidate_distribution": distribution, "candidate_sharing": sharing}
    assert_learns(PRIS(pris_tau=0.5, **keys), literal)


@pytest.mark.parametrize("alpha", [None, 0.75])
def test_proposes_by_popularity(alpha):
    sampler = PRIS(candidate_distribution="popularity", candidate_alpha=alpha)
    candidates, pool, negatives = propose(sampler, 12_000)
    count, items = counts(pool), candidates.items
    mass = np.log1p(count) if alpha is None else count**alpha
    assert_drawn_by(mass[negatives], items, negatives)
    log_q = candidates.log_q.double().numpy()
    found = np.exp(log_q - log_q[:, :1])
    np.testing.assert_allclose(found, mass[items] / mass[items[:, :1]], rtol=1e-5)


def test_uniform_proposals_have_no_log_q():
    assert propose(PRIS(), 5)[0].log_q is None


def test_pris_u_is_softmax():
    scores = Scores(torch.randn(9, 1), torch.randn(9, 5))
    expected = select(Softmax(candidate_num=5, softmax_tau=1.0), scores).weight
    assert torch.equal(select(PRIS(), scores).weight, expected)


def test_weights_do_not_change_with_constants():
    pos, neg, log_q = torch.randn(9, 1), torch.randn(9, 5), torch.randn(9, 5)
    moves, weights = (torch.zeros(9, 1), torch.randn(9, 1)), []
    for move in moves:
        scores = Scores(pos, neg + move)
        candidates = candidates_of(scores, log_q=log_q + 2 * move)
        weights.append(select(PRIS(), scores, candidates).weight)
    torch.testing.assert_close(*weights)
    torch.testing.assert_close(weights[0].sum(dim=1), torch.ones(9))


@given(scores(excluded=True))
def test_shared_candidates(scores):
    assert shared_weights(PRIS(), scores) == shared_weights(Softmax(), scores)


def test_pris_p_approaches_the_full_softmax():
    sampler = PRIS(candidate_distribution="popularity", candidate_num=40_000)
    candidates, pool, negatives = propose(sampler, 1)
    table = FakeEncoded.random(pool, scale=0.7, dtype=torch.float64)
    r = table.user_scores(torch.tensor([USER]), None)
    losses = bpr(torch.tensor(0.3), r[0])
    neg = r.gather(1, candidates.items)
    weight = select(sampler, Scores(torch.zeros(1, 1), neg), candidates).weight[0]
    full = torch.softmax(r[0, negatives], dim=0) @ losses[negatives]
    found = (weight * losses[candidates.items[0]]).sum()
    assert found.item() == pytest.approx(full.item(), rel=0.02)


def test_one_negative_left():
    assert_draws_what_is_left(PRIS(candidate_distribution="popularity"))


@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(PRIS(candidate_distribution="popularity"), BPR(), scale)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"pris_tau": 0}, "pris_tau=0: must be a number > 0"),
        ({"candidate_alpha": -1}, "candidate_alpha=-1: must be a number >= 0 or unset"),
        ({"candidate_distribution": "in_batch"}, "=in_batch: must be uniform or popularity"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        PRIS(**keys)
