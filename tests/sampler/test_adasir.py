"""AdaSIR: loss and gradient by the specification, the pools' distribution, their renewal."""

import itertools
import math

import numpy as np
import pytest
import torch
from fakes import (
    FakeEncoded,
    assert_drawn_by,
    assert_draws_what_is_left,
    assert_finite_step,
    assert_no_own_item,
    batch_of,
    bpr,
    gradients,
    recorded,
    set_up,
    start,
    toy_pool,
)

from recbole_hns.batch import Batch, Candidates, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.adasir import AdaSIR
from recbole_hns.training.step import part_losses

USER, DRAWS = 7, 60_000

KEYS = [
    {"adasir_pool_size": 10, "adasir_sample_size": 20},
    {"adasir_correction": "none", "candidate_distribution": "popularity"},
    {"adasir_correction": "inverse", "adasir_refresh": 2},
]


def ready(scale=1.0, dtype=torch.float32, **keys):
    """A sampler before its first epoch, a model and a pool."""
    sampler = AdaSIR(**keys)
    pool = set_up(sampler, toy_pool())
    return sampler, FakeEncoded.random(pool, scale=scale, dtype=dtype), pool


def propose(sampler, encoded, pool, num):
    """What ``num`` positives of USER have as candidates."""
    user = torch.full((num,), USER)
    return sampler.propose(Batch.of(user, user), encoded, pool).items


def negatives_of(pool):
    return [j for j in range(1, pool.item_num) if j not in pool.used[USER]]


def scores_of(encoded, items):
    return (encoded.item_table[items] @ encoded.user_table[USER]).detach().double().numpy()


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_loss_and_gradient(keys):
    sampler, encoded, pool = ready(dtype=torch.float64, **keys)
    with torch.no_grad():  # ties
        for table in encoded.tables:
            table.mul_(2).round_().div_(2)
    start(sampler, 1, encoded, pool)  # later, an item may have several v
    proposed, part = recorded(sampler, "propose"), batch_of(pool)
    found, _ = part_losses(part, encoded, sampler, BPR(), pool)

    sign = {"program": 1, "none": 0, "inverse": -1}[sampler.adasir_correction]
    expected = 0
    for u, i, items in zip(part.user, part.pos_item, proposed[0].items.tolist(), strict=True):
        pos, *scores = (encoded.user_table[u] @ encoded.item_table[j] for j in [i, *items])
        log_v = dict(zip(sampler.pool[u].tolist(), sampler.pool_log_v[u].tolist(), strict=True))
        powers = [
            math.exp(score.item() + sign * log_v[j]) for score, j in zip(scores, items, strict=True)
        ]
        for power, score in zip(powers, scores, strict=True):
            expected = expected + power / sum(powers) * bpr(pos, score) / len(part.user)
    # v is kept in float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(*(gradients(x, encoded.tables) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_no_candidate_is_the_users_own(keys):
    sampler, encoded, pool = ready(**keys)
    start(sampler, 0, encoded, pool)
    part = batch_of(pool)
    assert_no_own_item(part.user, sampler.propose(part, encoded, pool).items, pool)
    assert_draws_what_is_left(AdaSIR(**keys))


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_pools_approach_the_softmax(distribution):
    sizes = {"adasir_pool_size": 1000, "adasir_sample_size": 100_000}
    sampler, encoded, pool = ready(0.7, candidate_distribution=distribution, **sizes)
    start(sampler, 0, encoded, pool)
    negatives = negatives_of(pool)
    power = np.exp(scores_of(encoded, negatives))
    assert_drawn_by(power, sampler.pool[USER], negatives)
    assert bool(sampler.filled)


def test_a_pool_keeps_log_v_of_its_sample():
    """Scores and log q of the A items that were drawn, by the specification."""
    keys = {"candidate_distribution": "popularity", "adasir_sample_size": 20}
    sampler, encoded, pool = ready(adasir_pool_size=9, **keys)
    drawn = recorded(pool, "draw")
    start(sampler, 0, encoded, pool)
    sample = drawn[0][USER].tolist()
    scores = zip(scores_of(encoded, sample), sample, strict=True)
    exponent = [math.exp(r - math.log(math.log(1 + pool.popularity[j]))) for r, j in scores]
    log_v = {j: math.log(x / sum(exponent)) for j, x in zip(sample, exponent, strict=True)}
    kept = sampler.pool[USER].tolist(), sampler.pool_log_v[USER].tolist()
    for j, found in zip(*kept, strict=True):
        assert found == pytest.approx(log_v[j], rel=1e-5)


def test_half_of_a_pool_is_renewed_and_items_keep_their_v():
    sampler, encoded, pool = ready()
    start(sampler, 0, encoded, pool)
    # marks the old: no item is 0, no logarithm positive
    sampler.pool.zero_()
    sampler.pool_log_v.fill_(5)
    for epoch in range(1, 4):
        start(sampler, epoch, encoded, pool)
        old = sampler.pool == 0
        assert torch.equal(old, sampler.pool_log_v == 5)
        fraction, num = 0.5**epoch, old.numel()
        deviation = math.sqrt(num * fraction * (1 - fraction) * epoch)
        assert abs(old.sum() - fraction * num) < 5 * deviation


def test_pools_are_renewed_every_so_many_epochs():
    sampler, encoded, pool = ready(adasir_refresh=3)
    pools = []
    for epoch in range(5):
        start(sampler, epoch, encoded, pool)
        pools.append(sampler.pool.clone())
    same = [torch.equal(a, b) for a, b in itertools.pairwise(pools)]
    assert same == [True, True, False, True]


def test_all_slots_of_a_pool_are_drawn_alike():
    sampler, encoded, pool = ready(adasir_pool_size=20)
    sampler.pool[USER] = torch.arange(20)
    items = propose(sampler, encoded, pool, DRAWS // 5)
    assert_drawn_by(np.ones(20), items, list(range(20)))


@pytest.mark.parametrize(("correction", "sign"), [("program", 1), ("none", 0), ("inverse", -1)])
def test_correction(correction, sign):
    sampler, encoded, pool = ready(adasir_correction=correction)
    start(sampler, 0, encoded, pool)
    part, scores = batch_of(pool, 4), torch.randn(4, 5)
    torch.manual_seed(3)
    candidates = sampler.propose(part, encoded, pool)
    torch.manual_seed(3)
    slot = torch.randint(50, (4, 5))
    log_v = sampler.pool_log_v[part.user].gather(1, slot)
    assert torch.equal(candidates.items, sampler.pool[part.user].gather(1, slot).long())
    weight = sampler.select(Scores(torch.zeros(4, 1), scores), candidates, part).weight
    torch.testing.assert_close(weight, torch.softmax(scores + sign * log_v, dim=1))


def test_weights_without_log_q_are_the_softmax():
    scores = Scores(torch.zeros(4, 1), torch.randn(4, 5))
    part = Batch.of(torch.arange(4), torch.arange(4))
    weight = AdaSIR().select(scores, Candidates(torch.ones(4, 5).long()), part).weight
    torch.testing.assert_close(weight, torch.softmax(scores.neg, dim=1))


@pytest.mark.parametrize("keys", KEYS, ids=str)
@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale, keys):
    assert_finite_step(AdaSIR(**keys), BPR(), scale)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"adasir_pool_size": 300}, "adasir_pool_size=300: must be <= adasir_sample_size=200"),
        ({"adasir_sample_size": 0}, "adasir_sample_size=0: must be an integer > 0"),
        ({"candidate_num": 51}, "candidate_num=51: must be <= adasir_pool_size=50"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 0"),
        ({"adasir_correction": "v"}, "must be program or none or inverse"),
        ({"adasir_refresh": 0}, "adasir_refresh=0: must be an integer > 0"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
        ({"candidate_distribution": "in_batch"}, "candidate_distribution=in_batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        AdaSIR(**keys)
