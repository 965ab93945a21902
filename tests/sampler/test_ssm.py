"""SSM: its three sources of candidates, and the softmax loss with the values that it sets."""

import numpy as np
import pytest
import torch
from fakes import FakeEncoded, assert_drawn_by, assert_draws_what_is_left, set_up, toy_pool
from scored import assert_learns, loss_of, scores_of, select

from recbole_hns.batch import Batch, Negatives, Selection
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.rns import RNS
from recbole_hns.sampler.ssm import SSM
from recbole_hns.training.step import part_losses

EVERY = [
    {"candidate_num": 6, "ssm_tau": 0.5},
    {"candidate_num": 6, "ssm_tau": 0.5, "candidate_sharing": "batch"},
    {"candidate_num": 6, "ssm_negatives": "popularity"},
    {"candidate_num": 1, "ssm_negatives": "popularity"},
    {"ssm_negatives": "in_batch", "ssm_tau": 0.7},
]


@pytest.mark.parametrize("keys", EVERY, ids=lambda keys: "-".join(map(str, keys.values())))
@pytest.mark.parametrize("similarity", ["inner", "cosine"])
def test_loss_and_gradient(similarity, keys):
    sampler = SSM(ssm_similarity=similarity, **keys)

    def literal(pool, u, items, pos, neg):
        # the users' own items are left out by uniform candidates only
        masked = pool.used[u] if sampler.ssm_negatives == "uniform" else ()
        inside = [r for r, j in zip(neg, items, strict=True) if j not in masked]
        if not inside:
            return 0 * pos
        others = sum(torch.exp(r / sampler.ssm_tau) for r in inside)
        own = torch.exp(pos / sampler.ssm_tau)
        # in the batch, the row's own positive is one of the candidates
        return -torch.log(own / (others + (sampler.ssm_negatives != "in_batch") * own))

    assert_learns(sampler, literal, cosine=similarity == "cosine")


def test_takes_all():
    assert select(SSM(), scores_of([0.0], [[2.0, 3.0]])) == Selection()


def test_example_of_the_specification():
    assert row_losses(SSM(), [1.0], [[0.0, 1.0]]) == [pytest.approx(0.8619948, abs=5e-8)]


def row_losses(sampler, pos, neg):
    scores, rows = scores_of(pos, neg), torch.arange(len(pos))
    negatives = Negatives(None, scores, None, None)
    return loss_of(sampler).row_losses(scores, negatives, Batch.of(rows, rows)).tolist()


@pytest.mark.parametrize("negatives", ["uniform", "in_batch"])
@pytest.mark.parametrize("tau", [1e-3, 1.0])
def test_neither_overflows_nor_loses_small_differences(negatives, tau):
    sampler = SSM(ssm_tau=tau, ssm_negatives=negatives)
    neg = [[1e4, -1e4], [1e4, -1e4], [1.0 - 1e-3, 1.0]]
    assert np.isfinite(row_losses(sampler, [1e4, -1e4, 1.0], neg)).all()


def test_with_one_negative_and_tau_1_it_is_bpr():
    pool, results = set_up(RNS(), toy_pool()), []
    encoded, user = FakeEncoded.random(pool), torch.arange(1, 20)
    for sampler, loss in ((SSM(candidate_num=1), None), (RNS(), BPR())):
        torch.manual_seed(4)
        part = Batch.of(user, user)
        results.append(part_losses(part, encoded, sampler, loss or loss_of(sampler), pool)[0])
    torch.testing.assert_close(*results)


def test_shares_by_popularity():
    sampler = SSM(ssm_negatives="popularity", candidate_num=60_000, candidate_alpha=1.5)
    pool = set_up(sampler, toy_pool())
    batch = Batch.of(torch.arange(1, 21), torch.arange(1, 21))
    items = sampler.shared_items(batch, pool)
    assert items.shape == (1, 60_000)
    assert not torch.equal(items, sampler.shared_items(batch, pool))
    count = np.bincount(pool.used.item, minlength=pool.item_num)
    every = list(range(1, pool.item_num))
    # the users' own items are not left out
    assert_drawn_by(count[every] ** 1.5, items, every)
    candidates = sampler.propose(batch._replace(shared=items), None, pool)
    assert candidates.items is items
    assert candidates.excluded is None


def test_shares_uniform_candidates_without_a_users_own():
    sampler = SSM(candidate_num=30, candidate_sharing="batch")
    pool = set_up(sampler, toy_pool())
    batch = Batch.of(torch.arange(1, 21), torch.arange(1, 21))
    batch = batch._replace(shared=sampler.shared_items(batch, pool))
    items, (row, column) = sampler.propose(batch, None, pool)[:2]
    found = set(zip(batch.user[row].tolist(), column.tolist(), strict=True))
    own = {
        (u, n) for u in range(1, 21) for n, j in enumerate(items[0].tolist()) if j in pool.used[u]
    }
    assert found == own != set()


def test_in_batch_takes_the_batchs_positives():
    sampler = SSM(ssm_negatives="in_batch")
    batch = Batch.of(torch.tensor([1, 2, 3]), torch.tensor([5, 6, 5]))
    batch = batch._replace(shared=sampler.shared_items(batch, None))
    # also for a part of the batch
    part = next(batch.split(2))
    assert part.user.tolist() == [1, 2]
    assert sampler.propose(part, None, None).items.tolist() == [[5, 6, 5]]
    assert sampler.scored_num(100, 3) == 3


def test_one_negative_left():
    assert_draws_what_is_left(SSM())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"ssm_tau": 0}, "ssm_tau=0: must be a number > 0"),
        ({"ssm_similarity": "dot"}, "ssm_similarity=dot: must be inner or cosine"),
        ({"ssm_negatives": "all"}, "ssm_negatives=all: must be uniform or popularity or in_batch"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 0"),
        ({"candidate_distribution": "popularity"}, "set ssm_negatives=popularity instead"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        SSM(**keys)
