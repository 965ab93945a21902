"""gBCE and its gradient against its formula."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from literal_loss import (
    LARGE,
    assert_has_gradient,
    assert_is,
    assert_is_finite,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.errors import UserError
from recbole_hns.loss.gbce import GBCE

ITEMS = 21


def loss_of(t):
    loss = GBCE(gbce_t=t)
    loss.item_num = ITEMS
    return loss


def formula_of(t):
    """Equations of the paper, with weights w_j in place of 1 / n."""

    def log_sigmoid(x):
        return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))

    def formula(pos, neg, weights):
        n = sum(w > 0 for w in weights)
        if n == 0:
            return 0.0
        alpha = n / (ITEMS - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        of_negatives = sum(
            n * w * log_sigmoid(-r) for r, w in zip(neg, weights, strict=True) if w > 0
        )
        return -(beta * log_sigmoid(pos) + of_negatives) / (n + 1)

    return formula


@given(parts(), st.sampled_from([0.0, 0.75, 1.0]))
def test_value(part, t):
    assert_is(loss_of(t), formula_of(t), part)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gradient(t):
    assert_has_gradient(loss_of(t), formula_of(t))


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(loss_of(0.75), formula_of(0.75))


@pytest.mark.parametrize(("pos", "neg"), LARGE)
def test_large_scores(pos, neg):
    assert_is_finite(loss_of(0.75), [[pos]], [neg])


def test_nan():
    assert_nan_is_seen(loss_of(0.75))


def test_of_every_item_it_is_the_plain_binary_cross_entropy():
    neg = [[0.3] * (ITEMS - 1)]
    assert value(loss_of(1.0), [[0.5]], neg)[0] == value(loss_of(0.0), [[0.5]], neg)[0]


def test_what_it_refuses():
    with pytest.raises(UserError, match=r"gbce_t=1.5: must be a number >= 0 and <= 1"):
        GBCE(gbce_t=1.5)
