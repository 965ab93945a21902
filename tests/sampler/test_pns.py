"""PNS: the one negative that was drawn by popularity."""

import numpy as np
import pytest
import torch
from fakes import assert_drawn_by, bpr, set_up, toy_pool
from scored import assert_learns, scores_of, select

from recbole_hns.batch import Batch, Selection
from recbole_hns.errors import UserError
from recbole_hns.sampler.pns import PNS


def test_takes_what_was_drawn():
    assert select(PNS(), scores_of([0.0, 1.0], [[2.0], [-1.0]])) == Selection()


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_loss_and_gradient(sharing):
    def literal(pool, u, items, pos, neg):
        return 0 * pos if items[0] in pool.used[u] else bpr(pos, neg[0])

    assert_learns(PNS(candidate_sharing=sharing), literal)


@pytest.mark.parametrize("alpha", [0.0, 0.75, 2.0])
def test_draws_by_popularity(alpha):
    sampler = PNS(candidate_alpha=alpha)
    pool = set_up(sampler, toy_pool())
    user = torch.full((20_000,), 7)
    count = np.bincount(pool.used.item, minlength=pool.item_num)
    negatives = [j for j in range(1, pool.item_num) if j not in pool.used[7]]
    items = sampler.propose(Batch.of(user, user), None, pool).items
    assert_drawn_by(count[negatives] ** alpha, items, negatives)


def test_what_it_refuses():
    text = "candidate_distribution=uniform: must be popularity"
    with pytest.raises(UserError, match=text):
        PNS(candidate_distribution="uniform")
