"""A loss against its formula, written out pair by pair in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_hns.batch import Batch, Negatives, Scores

TIED = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0])
ANY = st.floats(-20, 20, allow_subnormal=False)
WEIGHT = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])
SCALE = st.sampled_from([0.0, 0.5, 2.0])

#: A positive's score and its negatives'.
LARGE = ((1e4, [-1e4, 2e4]), (-1e4, [1e4, 0.0]), (0.0, [0.0]), (1e4, [1e4] * 3))


@st.composite
def parts(draw):
    """Scores of positives and negatives, weights, and scales or None; arrays in float64.

    Some weights and scales are 0, and some scores of a weight of 0 are minus infinity.
    """
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    elements = draw(st.sampled_from([TIED, ANY]))
    pos = draw(hnp.arrays(np.float64, (shape[0], 1), elements=elements))
    neg = draw(hnp.arrays(np.float64, shape, elements=elements))
    weight = draw(st.none() | hnp.arrays(np.float64, shape, elements=WEIGHT))
    if weight is not None:
        neg[(weight == 0) & draw(hnp.arrays(bool, shape))] = -np.inf
    return pos, neg, weight, draw(st.none() | hnp.arrays(np.float64, shape[0], elements=SCALE))


def value(loss, pos, neg, weight=None, scale=None, size=1):
    """The loss of a part, and its gradients in positives and negatives."""
    scores = Scores(*(torch.tensor(each, dtype=torch.float64) for each in (pos, neg)))
    for each in scores:
        each.requires_grad_()
    weight, scale = (
        each if each is None else torch.tensor(each, dtype=torch.float64)
        for each in (weight, scale)
    )
    rows = torch.arange(len(scores.pos))
    detached = Scores(*(each.detach() for each in scores))
    found = loss(scores, Negatives(None, detached, weight, scale), Batch(rows, rows, size))
    found.backward()
    return found.item(), scores.pos.grad.numpy(), scores.neg.grad.numpy()


def literal(formula, pos, neg, weight, scale, size):
    """What a part adds to the batch's mean loss, by the formula of a row."""
    total = 0.0
    for b, row in enumerate(neg.tolist()):
        weights = [1 / len(row)] * len(row) if weight is None else weight[b].tolist()
        total += (1.0 if scale is None else scale[b]) * formula(pos[b, 0], row, weights)
    return total / size


def assert_is(loss, formula, part):
    """The value of a part is that of the formula, and value and gradients are finite."""
    found, *gradients = value(loss, *part, size=7)
    assert found == pytest.approx(literal(formula, *part, size=7), rel=1e-9, abs=1e-9)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if part[2] is not None:
        assert not gradients[1][part[2] == 0].any()


def assert_is_finite(loss, pos, neg):
    """Value and gradients are numbers, for scores of any size."""
    found, *gradients = value(loss, pos, neg)
    assert math.isfinite(found)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def assert_has_gradient(loss, formula):
    """The gradients are the formula's central differences."""
    rng = np.random.default_rng(3)
    for weighted in (False, True):
        pos, neg = rng.normal(size=(3, 1)), rng.normal(size=(3, 5))
        weight = rng.random((3, 5)) * (rng.random((3, 5)) < 0.7) if weighted else None
        scale = np.array([0.5, 2.0, 0.0]) if weighted else None
        _, *found = value(loss, pos, neg, weight, scale, 3)
        step = 1e-6
        for array, gradient in zip((pos, neg), found, strict=True):
            for index in np.ndindex(*array.shape):
                ends = []
                for sign in (1, -1):
                    array[index] += sign * step
                    ends.append(literal(formula, pos, neg, weight, scale, 3))
                    array[index] -= sign * step
                expected = (ends[0] - ends[1]) / (2 * step)
                assert gradient[index] == pytest.approx(expected, rel=1e-5, abs=1e-7)


def assert_weight_0_does_not_enter(loss, formula):
    """Whatever its score; a row of which all weights are 0 has neither loss nor gradient."""
    for score in (-np.inf, np.inf, 1e308, 5.0):
        pos, neg = [[0.3], [0.1]], [[1.0, score, 0.5], [score] * 3]
        weight = np.array([[0.5, 0.0, 0.5], [0.0] * 3])
        found, *gradients = value(loss, pos, neg, weight, size=2)
        assert found == pytest.approx(formula(0.3, [1.0, 0.5], [0.5, 0.5]) / 2, rel=1e-12)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        assert not gradients[1][weight == 0].any()
        assert gradients[0][1] == 0


def assert_nan_is_seen(loss):
    """A weight, a scale or a score that is NaN makes the loss NaN."""
    pos, neg = [[0.0]], [[1.0, 2.0]]
    assert math.isnan(value(loss, pos, neg, [[math.nan, 1.0]])[0])
    assert math.isnan(value(loss, pos, neg, scale=[math.nan])[0])
    assert math.isnan(value(loss, pos, [[math.nan, 1.0]])[0])
    assert math.isnan(value(loss, [[math.nan]], neg, [[0.5, 0.5]])[0])
