"""DNS: the highest-scored candidate."""

import math

import pytest
from fakes import bpr
from hypothesis import given
from scored import (
    assert_learns,
    first_least,
    scores,
    scores_of,
    select,
    selected,
    shared_weights,
)

from recbole_hns.sampler.dns import DNS


@given(scores())
def test_selection(scores):
    columns, weight = selected(DNS(), scores)
    assert columns == [[first_least([-r for r in row])] for row in scores.neg.tolist()]
    assert weight == [[1.0]] * len(columns)


@given(scores(excluded=True))
def test_shared_candidates(scores):
    for row, weights in zip(scores.neg.tolist(), shared_weights(DNS(), scores), strict=True):
        expected = [0.0] * len(row)
        if max(row) > -math.inf:
            expected[first_least([-r for r in row])] = 1.0
        assert weights == expected


def test_loss_and_gradient():
    def literal(pool, u, items, pos, neg):
        return bpr(pos, max(neg, key=lambda r: r.item()))

    assert_learns(DNS(candidate_num=9), literal)


@pytest.mark.parametrize("source", ["uniform", "popularity", "in_batch"])
def test_loss_and_gradient_with_shared_candidates(source):
    def literal(pool, u, items, pos, neg):
        inside = [r for r, j in zip(neg, items, strict=True) if j not in pool.used[u]]
        return bpr(pos, max(inside, key=lambda r: r.item())) if inside else 0 * pos

    keys = {"candidate_distribution": source, "candidate_sharing": "batch"}
    assert_learns(DNS(candidate_num=9, **keys), literal)


def test_all_negatives():
    inf = math.inf
    scores = scores_of([0.5, 0.5], [[-inf, 1.0, -inf, 0.2, 3.0], [-inf, 1.0, 2.0, -inf, -inf]])
    assert select(DNS(candidate_num="all"), scores).columns.tolist() == [[4], [2]]
