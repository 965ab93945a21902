"""RNS: the one uniform negative that was drawn, or one for all rows of a batch."""

import numpy as np
import pytest
import torch
from fakes import assert_drawn_by, bpr, set_up, toy_pool
from scored import assert_learns, scores_of, select

from recbole_hns.batch import Batch, Selection
from recbole_hns.errors import UserError
from recbole_hns.sampler.rns import RNS


def test_takes_what_was_drawn():
    assert select(RNS(), scores_of([0.0, 1.0], [[2.0], [-1.0]])) == Selection()


def test_loss_and_gradient():
    assert_learns(RNS(), lambda pool, u, items, pos, neg: bpr(pos, neg[0]))


def test_draws_each_negative_alike():
    sampler = RNS()
    pool = set_up(sampler, toy_pool())
    user = torch.full((20_000,), 7)
    negatives = [j for j in range(1, pool.item_num) if j not in pool.used[7]]
    items = sampler.propose(Batch.of(user, user), None, pool).items
    assert items.shape == (20_000, 1)
    assert_drawn_by(np.ones(len(negatives)), items, negatives)


def test_one_negative_for_a_batch():
    def literal(pool, u, items, pos, neg):
        return 0 * pos if items[0] in pool.used[u] else bpr(pos, neg[0])

    assert_learns(RNS(candidate_sharing="batch"), literal)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"candidate_num": 2}, "candidate_num=2: must be 1"),
        ({"candidate_distribution": "popularity"}, "candidate_distribution=popularity: must be un"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        RNS(**keys)
