"""BPR's loss and gradient against its formula."""

import math

from hypothesis import given
from literal_loss import (
    assert_has_gradient,
    assert_is,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.loss.bpr import BPR


def formula(pos, neg, weights):
    """Sum of w_j times -log sigmoid(r_ui - r_uj)."""
    return sum(
        -w * math.log(1 / (1 + math.exp(n - pos))) for n, w in zip(neg, weights, strict=True) if w
    )


@given(parts())
def test_value(part):
    assert_is(BPR(), formula, part)


def test_gradient():
    assert_has_gradient(BPR(), formula)


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(BPR(), formula)


def test_nan():
    assert_nan_is_seen(BPR())


def test_large_differences_do_not_overflow():
    loss, pos_gradient, neg_gradient = value(BPR(), [[-1e4]], [[1e4, -3e4]])
    assert loss == 1e4
    assert pos_gradient.tolist() == [[-0.5]]
    assert neg_gradient.tolist() == [[0.5, 0.0]]
