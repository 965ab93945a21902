"""The hinge loss and its gradient against its formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from literal_loss import (
    assert_has_gradient,
    assert_is,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.errors import UserError
from recbole_hns.loss.hinge import Hinge


def formula_of(margin):
    """Sum of w_j times max(0, margin - r_ui + r_uj)."""
    return lambda pos, neg, weights: sum(
        w * max(0.0, margin - pos + n) for n, w in zip(neg, weights, strict=True) if w
    )


@given(parts(), st.sampled_from([0.3, 1.0, 5.0]))
def test_value(part, margin):
    assert_is(Hinge(hinge_margin=margin), formula_of(margin), part)


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_gradient(margin):
    assert_has_gradient(Hinge(hinge_margin=margin), formula_of(margin))


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(Hinge(), formula_of(1.0))


def test_nan():
    assert_nan_is_seen(Hinge())


def test_a_pair_beyond_the_margin_has_no_loss():
    loss, pos_gradient, neg_gradient = value(Hinge(), [[2.0]], [[0.5]])
    assert loss == 0
    assert not pos_gradient.any()
    assert not neg_gradient.any()


def test_what_it_refuses():
    with pytest.raises(UserError, match=r"hinge_margin=-1: must be a number > 0"):
        Hinge(hinge_margin=-1)
