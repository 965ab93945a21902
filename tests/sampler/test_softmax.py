"""The sampler ``softmax``: all candidates, weighted by the softmax of their scores."""

import math

import pytest
import torch
from fakes import assert_finite_step, bpr
from hypothesis import given
from hypothesis import strategies as st
from scored import assert_learns, candidates_of, scores, scores_of, select, selected, shared_weights

from recbole_hns.batch import Negatives
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.softmax import Softmax, softmax_weight


def softmax(exponents):
    """Of a list; minus infinity gets 0."""
    powers = [math.exp(x - max(exponents)) for x in exponents]
    return [power / sum(powers) for power in powers]


@given(scores(), st.sampled_from([0.01, 0.1, 1.0, 7.0]))
def test_weights(scores, tau):
    columns, weight = selected(Softmax(softmax_tau=tau), scores)
    for row, picked, weights in zip(scores.neg.tolist(), columns, weight, strict=True):
        assert picked == list(range(len(row)))
        assert weights == pytest.approx(softmax([r / tau for r in row]), rel=1e-9, abs=1e-12)


@given(scores(excluded=True), st.sampled_from([0.01, 1.0]))
def test_shared_candidates(scores, tau):
    weights = shared_weights(Softmax(softmax_tau=tau), scores)
    for row, found in zip(scores.neg.tolist(), weights, strict=True):
        if max(row) > -math.inf:
            assert found == pytest.approx(softmax([r / tau for r in row]), abs=1e-12)


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing):
    """The weights have no gradient."""

    def literal(pool, u, items, pos, neg):
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        weights = softmax([r.item() / 0.5 for r in inside])
        return sum(w * bpr(pos, r) for w, r in zip(weights, inside, strict=True)) + 0 * pos

    assert_learns(Softmax(candidate_num=6, softmax_tau=0.5, candidate_sharing=sharing), literal)


def test_weight_is_divided_by_the_probability_of_the_draw():
    scores = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    log_q = torch.tensor([[-0.5, -3.0, 0.1]], dtype=torch.float64)
    expected = softmax([0.3 / 2 + 0.5, -1.0 / 2 + 3.0, 2.0 / 2 - 0.1])
    assert softmax_weight(scores, 2.0, log_q)[0].tolist() == pytest.approx(expected)


def test_a_small_tau_does_not_overflow():
    weight = softmax_weight(torch.tensor([[1e4, -1e4, 9e3]]), 1e-38)
    assert weight.tolist() == [[1.0, 0.0, 0.0]]


def test_nan_in_scores_is_seen():
    """An excluded candidate has weight 0, but a weight that is NaN is not taken for one."""
    scores = scores_of([0.0], [[math.nan, -math.inf, 1.0]])
    candidates = candidates_of(scores)
    negatives = Negatives.of(candidates, scores, select(Softmax(), scores, candidates))
    first, second, third = negatives.weight[0].tolist()
    assert math.isnan(first)
    assert second == 0
    assert math.isnan(third)


@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(Softmax(), BPR(), scale)
