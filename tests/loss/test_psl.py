"""PSL and its gradient against its formula."""

import math

import pytest
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

from recbole_hns.errors import UserError
from recbole_hns.loss.psl import PSL

KEYS = [
    {},
    {"loss_tau": 0.5, "psl_surrogate": "relu"},
    {"loss_tau": 2.0, "psl_surrogate": "atan"},
    {"loss_tau": 1.0},
]

#: 2**-52, the step from 1 in float64
SMALLEST = 2.0**-52


def formula_of(loss):
    """log sum_j n w_j sigma((r_uj - r_ui) / 2)^(1 / tau)."""

    def log_sigma(x):
        if loss.psl_surrogate == "tanh":
            # tanh(x) + 1 by its exponentials; for a large -x, the 1 of its denominator is all
            return math.log(2) + (2 * x if x < -300 else -math.log1p(math.exp(-2 * x)))
        return math.log(max((x if loss.psl_surrogate == "relu" else math.atan(x)) + 1, SMALLEST))

    def formula(pos, neg, weights):
        used = [(n, w) for n, w in zip(neg, weights, strict=True) if w]
        if not used:
            return 0.0
        logs = [math.log(len(used) * w) + log_sigma((n - pos) / 2) / loss.loss_tau for n, w in used]
        return max(logs) + math.log(math.fsum(math.exp(each - max(logs)) for each in logs))

    return formula


@given(parts(), st.sampled_from(KEYS))
def test_value(part, keys):
    loss = PSL(**keys)
    assert_is(loss, formula_of(loss), part)


@pytest.mark.parametrize("keys", KEYS)
def test_gradient(keys):
    loss = PSL(**keys)
    assert_has_gradient(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_a_weight_of_0(keys):
    loss = PSL(**keys)
    assert_weight_0_does_not_enter(loss, formula_of(loss))


@pytest.mark.parametrize("keys", KEYS)
def test_nan(keys):
    assert_nan_is_seen(PSL(**keys))


def test_the_exponential_in_place_of_sigma_is_the_softmax_loss(monkeypatch):
    from recbole_hns.loss.softmax import Softmax

    monkeypatch.setattr(PSL, "_log_sigma", lambda self, difference: difference / 2)
    part = [[0.3]], [[0.2, -1.0, 0.7]], [[0.5, 0.2, 0.3]]
    for found, expected in zip(
        value(PSL(loss_tau=0.2), *part), value(Softmax(loss_tau=0.4), *part), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("surrogate", ["tanh", "relu", "atan"])
@pytest.mark.parametrize("scores", [([[1e4]], [[-1e4, -2e4]]), ([[-1e4]], [[1e4, 0.0]])])
def test_large_scores(surrogate, scores):
    assert_is_finite(PSL(psl_surrogate=surrogate), *scores)


def test_what_it_refuses():
    with pytest.raises(UserError, match="psl_surrogate=exp: must be tanh or relu or atan"):
        PSL(psl_surrogate="exp")
