"""BSL and its gradient against its formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from literal_loss import (
    assert_has_gradient,
    assert_is,
    assert_is_finite,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.bsl import BSL
from recbole_hns.loss.softmax import Softmax

KEYS = [
    {"loss_tau": 0.5, "bsl_power": 1.3},
    {"loss_tau": 2.0, "bsl_power": 0.8, "bsl_pooled": True},
]


def formula_of(loss):
    """Of a user with one row: -r_ui / t1 + t2 log sum_j n w_j exp(r_uj / t1), pooled w_j alone."""

    def formula(pos, neg, weights):
        used = [(n, w) for n, w in zip(neg, weights, strict=True) if w]
        if not used:
            return 0.0
        factor = 1 if loss.bsl_pooled else len(used)
        others = math.fsum(factor * w * math.exp(n / loss.loss_tau) for n, w in used)
        return -pos / loss.loss_tau + loss.bsl_power * math.log(others)

    return formula


@given(parts(), st.sampled_from(KEYS))
def test_value(part, keys):
    loss = BSL(**keys)
    assert_is(loss, formula_of(loss), part)


@pytest.mark.parametrize("keys", KEYS)
def test_gradient(keys):
    loss = BSL(**keys)
    assert_has_gradient(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_a_weight_of_0(keys):
    loss = BSL(**keys)
    assert_weight_0_does_not_enter(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_nan(keys):
    assert_nan_is_seen(BSL(**keys))


def test_pooled_over_the_rows_of_a_user():
    loss, rng = BSL(loss_tau=0.7, bsl_power=1.2, bsl_pooled=True), np.random.default_rng(0)
    user = [3, 1, 3, 8, 1, 3]
    pos, neg = (torch.tensor(rng.normal(size=(6, n)), requires_grad=True) for n in (1, 4))
    detached = Scores(pos.detach(), neg.detach())
    part = Batch(torch.tensor(user), torch.zeros(6, dtype=torch.int64), 9)
    found = loss(Scores(pos, neg), Negatives(None, detached), part)

    total = 0.0
    for b, u in enumerate(user):
        of_user = [(pos[c, 0] / 0.7).exp() for c in range(6) if user[c] == u]
        others = [(each / 0.7).exp() for each in neg[b]]
        positive, negative = sum(of_user) / len(of_user), sum(others) / len(others)
        total = total - positive.log() + 1.2 * negative.log()
    torch.testing.assert_close(found, total / 9)
    for a, b in zip(
        torch.autograd.grad(found, (pos, neg)),
        torch.autograd.grad(total / 9, (pos, neg)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_only_pooled_rows_have_to_stay_together():
    assert BSL(bsl_pooled=True).pools_users
    assert not BSL().pools_users


def test_with_t2_of_1_it_is_the_softmax_loss():
    part = [[0.3], [0.1]], [[0.2, -1.0, 0.7], [0.4, 0.4, 0.4]], [[0.5, 0.2, 0.3]] * 2
    for found, expected in zip(
        value(BSL(loss_tau=0.2, bsl_power=1.0), *part),
        value(Softmax(loss_tau=0.2), *part),
        strict=True,
    ):
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pooled", [False, True])
def test_large_scores(pooled):
    for scores in (([[1e4]], [[-1e4, -2e4]]), ([[-1e4]], [[1e4, 0.0]])):
        assert_is_finite(BSL(bsl_pooled=pooled), *scores)


def test_what_it_refuses():
    with pytest.raises(UserError, match="bsl_pooled=mean: must be True or False"):
        BSL(bsl_pooled="mean")
