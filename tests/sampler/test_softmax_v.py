"""Softmax-v(rho, N): all candidates, weighted by Algorithm 2 of the HNS paper."""

import math

import pytest
import torch
from fakes import bpr
from hypothesis import given
from hypothesis import strategies as st
from scored import assert_learns, rows_of, scores, scores_of, select, selected, shared_weights

from recbole_hns.errors import UserError
from recbole_hns.sampler.softmax_v import SoftmaxV, softmax_v_weight

INF = math.inf


def loss(pos, neg):
    """-log sigmoid(pos - neg), literally but without overflow."""
    x = pos - neg
    return math.log1p(math.exp(-x)) if x > 0 else -x + math.log1p(math.exp(x))


def literal_weights(pos, neg, rho):
    """Of a row's candidates; None where the formula is lost to rounding."""
    losses = [loss(pos, r) for r in neg]
    mean = sum(losses) / len(losses)
    variance = sum((x - mean) ** 2 for x in losses) / len(losses)
    if len(set(neg)) == 1 or rho == 0:
        return [1 / len(neg)] * len(neg)
    if variance < (1e-12 * max(losses)) ** 2:
        return None
    tau = math.sqrt(variance / (2 * rho))
    powers = [math.exp((x - max(losses)) / tau) for x in losses]
    return [power / sum(powers) for power in powers]


@given(scores(), st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0, 100.0]))
def test_weights(scores, rho):
    columns, weight = selected(SoftmaxV(softmax_rho=rho), scores)
    for (pos, row), picked, weights in zip(rows_of(scores), columns, weight, strict=True):
        assert picked == list(range(len(row)))
        expected = literal_weights(pos, row, rho)
        if expected is None:
            assert sum(weights) == pytest.approx(1)
        else:
            assert weights == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(scores(excluded=True), st.sampled_from([0.0, 0.1, 3.0]))
def test_shared_candidates(scores, rho):
    """The weights are those among the candidates that are not excluded."""
    weights = shared_weights(SoftmaxV(softmax_rho=rho), scores)
    for (pos, row), found in zip(rows_of(scores), weights, strict=True):
        inside = [j for j, r in enumerate(row) if r > -INF]
        expected = literal_weights(pos, [row[j] for j in inside], rho) if inside else None
        if expected is not None:
            assert [found[j] for j in inside] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing):
    """The weights have no gradient."""

    def literal(pool, u, items, pos, neg):
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        if not inside:
            return 0 * pos
        weights = literal_weights(pos.item(), [r.item() for r in inside], 2.0)
        return sum(w * bpr(pos, r) for w, r in zip(weights, inside, strict=True))

    assert_learns(SoftmaxV(candidate_num=6, softmax_rho=2.0, candidate_sharing=sharing), literal)


def test_all_negatives():
    scores = scores_of([0.5], [[-INF, 1.0, -INF, 0.2, 3.0, 0.1]])
    weight = select(SoftmaxV(candidate_num="all", softmax_rho=3.0), scores).weight[0].tolist()
    expected = literal_weights(0.5, [1.0, 0.2, 3.0, 0.1], 3.0)
    assert [weight[j] for j in (1, 3, 4, 5)] == pytest.approx(expected)
    assert weight[0] == weight[2] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rho", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(
    "scores",
    [
        [[0.3] * 7],  # all losses equal
        [[0.3]],  # one candidate
        [[-1e4, 0.0, 1e4]],  # large gaps
        [[1e4] * 3 + [-1e4]],
        [[0.1, 0.1 + 1e-7, 0.1]],  # a variance of rounding errors
    ],
)
def test_weights_are_finite_and_sum_to_one(scores, rho, dtype):
    scores = torch.tensor(scores, dtype=dtype)
    for pos in (-1e4, 0.0, 0.3, 1e4):
        weight = softmax_v_weight(torch.tensor([[pos]], dtype=dtype), scores, rho)
        assert torch.isfinite(weight).all()
        assert weight.sum().item() == pytest.approx(1, rel=1e-6)
        if len(set(scores[0].tolist())) == 1:
            assert weight[0].tolist() == pytest.approx([1 / scores.shape[1]] * scores.shape[1])


def test_equal_scores_have_equal_weights_whatever_the_vector_width():
    """Found by hypothesis: vectorised and scalar softplus differ in the last bit."""
    for num in range(1, 40):
        for pos in (0.0, -15.0, 3.7):
            scores = torch.full((3, num), -12.7662, dtype=torch.float64)
            weight = softmax_v_weight(scores.new_full((3, 1), pos), scores, 3.0)
            torch.testing.assert_close(weight, torch.full_like(weight, 1 / num))


def test_opauc_beta_sets_rho():
    assert SoftmaxV(opauc_beta=0.05).softmax_rho == pytest.approx(-math.log(0.05))
    assert SoftmaxV(opauc_beta=1.0).softmax_rho == 0


def test_what_it_refuses():
    with pytest.raises(UserError, match=r"softmax_rho=3.0: opauc_beta=0.5 sets it; give only one"):
        SoftmaxV(opauc_beta=0.5, softmax_rho=3.0)
