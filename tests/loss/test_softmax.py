"""The softmax loss and its gradient against its formula."""

import math

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
from recbole_hns.loss.bpr import BPR
from recbole_hns.loss.softmax import Softmax

KEYS = [
    {"loss_tau": 0.5},
    {"loss_tau": 2.0, "softmax_positive": True},
]


def formula_of(loss):
    """log sum_j n w_j exp((r_uj - r_ui) / tau), with the positive's 1 in the sum or without."""

    def formula(pos, neg, weights):
        used = [(n, w) for n, w in zip(neg, weights, strict=True) if w]
        if not used:
            return 0.0
        others = sum(len(used) * w * math.exp((n - pos) / loss.loss_tau) for n, w in used)
        return math.log(others + (1 if loss.softmax_positive else 0))

    return formula


@given(parts(), st.sampled_from(KEYS))
def test_value(part, keys):
    loss = Softmax(**keys)
    assert_is(loss, formula_of(loss), part)


@pytest.mark.parametrize("keys", KEYS)
def test_gradient(keys):
    loss = Softmax(**keys)
    assert_has_gradient(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_a_weight_of_0(keys):
    loss = Softmax(**keys)
    assert_weight_0_does_not_enter(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_nan(keys):
    assert_nan_is_seen(Softmax(**keys))


@pytest.mark.parametrize("keys", KEYS)
def test_equal_weights_give_the_published_form(keys):
    loss, neg = Softmax(**keys), [[0.2, -1.0, 0.7, 0.4]]
    expected = value(loss, [[0.3]], neg)
    found = value(loss, [[0.3]], neg, [[0.25] * 4])
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-14)
    # excluded candidates leave that of the others
    found = value(loss, [[0.3]], [[*neg[0], -math.inf]], [[0.25] * 4 + [0.0]])
    assert found[0] == pytest.approx(expected[0], rel=1e-14)


@pytest.mark.parametrize("positive", [False, True])
def test_a_small_tau_does_not_overflow(positive):
    loss = Softmax(loss_tau=1e-3, softmax_positive=positive)
    for weight in (None, [[0.5, 0.5]]):
        found, *gradients = value(loss, [[-1e4]], [[1e4, -1e4]], weight)
        assert found == pytest.approx(2e7, rel=1e-12)
        assert gradients[0][0, 0] == pytest.approx(-1e3)


def test_one_candidate_with_the_positive_is_bpr_at_tau_1():
    loss = Softmax(loss_tau=1.0, softmax_positive=True)
    for found, expected in zip(
        value(loss, [[0.3]], [[1.7]]), value(BPR(), [[0.3]], [[1.7]]), strict=True
    ):
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"loss_tau": 0}, "loss_tau=0: must be a number > 0"),
        ({"softmax_positive": 1}, "softmax_positive=1: must be True or False"),
        ({"hinge_margin": 1.0}, "loss softmax has only loss_tau, softmax_positive"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        Softmax(**keys)
