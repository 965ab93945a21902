"""The sampler ``all``: every candidate, with equal weights."""

import pytest
from fakes import bpr, mean
from hypothesis import given
from scored import assert_learns, scores, scores_of, select, shared_weights

from recbole_hns.batch import Selection
from recbole_hns.sampler.all import All


def test_takes_all():
    assert select(All(), scores_of([0.0, 1.0], [[2.0, 3.0], [-1.0, 0.0]])) == Selection()


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing):
    def literal(pool, u, items, pos, neg):
        losses = [bpr(pos, r) for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        return mean(losses) if losses else 0 * pos

    assert_learns(All(candidate_num=9, candidate_sharing=sharing), literal)


@given(scores(excluded=True))
def test_shared_candidates(scores):
    for row, weights in zip(scores.neg.tolist(), shared_weights(All(), scores), strict=True):
        num = sum(r > -float("inf") for r in row)
        assert weights == pytest.approx([1 / num if r > -float("inf") else 0 for r in row])
