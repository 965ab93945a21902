"""SRNS: choice and memory against their formulas, written out literally in float64."""

import numpy as np
import pytest
import torch
from fakes import (
    FakeEncoded,
    assert_draws_what_is_left,
    assert_finite_step,
    batch_of,
    bpr,
    gradients,
    set_up,
    start,
    toy_pool,
)

from recbole_hns.batch import Batch, Candidates, Scores
from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.srns import SRNS
from recbole_hns.training.step import part_losses


def ready(dtype=torch.float32, **keys):
    """A sampler before its first epoch, a model and a pool."""
    sampler = SRNS(**keys)
    pool = set_up(sampler, toy_pool(), 4)
    return sampler, FakeEncoded.random(pool, 4, 0.7, dtype), pool


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_choice_and_gradient(epochs):
    """After some epochs of random parameters: the literal argmax, and the loss of BPR with it."""
    sampler, encoded, pool = ready(torch.float64, srns_alpha=3.0, srns_warmup=4)
    tables = []
    for epoch in range(epochs):
        start(sampler, epoch, encoded, pool)
        with torch.no_grad():
            for table in encoded.tables:
                table.normal_(0, 0.7)
        tables.append([table.detach().clone() for table in encoded.tables])
    part, memory = batch_of(pool), sampler.memory.clone()
    found, negatives = part_losses(part, encoded, sampler, BPR(), pool)

    weight = 3.0 * min(1, (epochs - 1) / 4)
    past = tables[:-1][-5:]  # the last one is of the epoch under way
    expected = 0
    rows = part.user.tolist(), part.pos_item.tolist(), negatives.items.tolist()
    for u, i, (chosen,) in zip(*rows, strict=True):
        values = []
        for j in memory[u].tolist():
            p = [
                sigmoid((users[u] @ items[j] - users[u] @ items[i]).item())
                for users, items in (*past, tables[-1])
            ]
            values.append(p[-1] + weight * (np.std(p[:-1]) if len(past) > 1 else 0))
        best = memory[u].tolist().index(chosen)
        assert values[best] == pytest.approx(max(values), abs=1e-9)
        pos, neg = (encoded.user_table[u] @ encoded.item_table[j] for j in (i, chosen))
        expected = expected + bpr(pos, neg) / len(part.user)
    assert len(sampler.history) == min(epochs - 1, 5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(*(gradients(x, encoded.tables) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_first_of_equals_is_chosen():
    sampler, encoded, pool = ready()
    start(sampler, 0, encoded, pool)
    with torch.no_grad():
        for table in encoded.tables:
            table.fill_(0.1)
    part = Batch.of(torch.tensor([4, 9]), torch.tensor([1, 2]))
    memory = sampler.memory[part.user].clone()
    _, negatives = part_losses(part, encoded, sampler, BPR(), pool)
    assert torch.equal(negatives.items, memory[:, :1])


def test_candidates_are_the_memory_and_new_ones():
    sampler, encoded, pool = ready()
    start(sampler, 0, encoded, pool)
    part = batch_of(pool)
    items = sampler.propose(part, encoded, pool).items
    assert items.shape == (40, 72)
    assert torch.equal(items[:, :8], sampler.memory[part.user])


def renew(sampler, user, items, scores):
    """Select for users, with scores of their candidates."""
    part = Batch.of(torch.tensor(user), torch.ones(len(user)).long())
    sampler.select(Scores(torch.zeros(len(user), 1), scores), Candidates(items), part)


def test_memory_is_drawn_without_replacement_by_score():
    """Two of four items: by enumeration, with probability softmax(r / tau) and then of the rest."""
    sampler, *_ = ready(srns_memory=2, candidate_num=4, srns_tau=2.0)
    scores, counts = torch.tensor([[1.0, 3.0, 0.0, 2.0]]), {}
    items = torch.tensor([[11, 12, 13, 14]])
    for _ in range(6000):
        renew(sampler, [5], items, scores)
        kept = tuple(sorted(sampler.memory[5].tolist()))
        counts[kept] = counts.get(kept, 0) + 1
    powers = torch.softmax(scores[0] / 2, dim=0).tolist()
    weights = dict(zip(items[0].tolist(), powers, strict=True))
    chi2 = 0
    for a in weights:
        for b in weights:
            if a < b:
                p = weights[a] * weights[b] * (1 / (1 - weights[a]) + 1 / (1 - weights[b]))
                chi2 += (counts[a, b] - 6000 * p) ** 2 / (6000 * p)
    assert chi2 < 20.5  # 0.1% point of 5 degrees of freedom


def test_memory_is_renewed_once_a_user_and_holds_no_positives():
    sampler, encoded, pool = ready(srns_memory=5, candidate_num=15)
    start(sampler, 0, encoded, pool)
    before = sampler.memory.clone()
    items = torch.arange(1, 16).expand(4, -1) + torch.tensor([[0], [20], [0], [0]])
    renew(sampler, [3, 3, 8, 3], items, torch.zeros(4, 15))
    assert set(sampler.memory[3].tolist()) <= set(range(1, 16))  # its first row
    changed = [u for u in range(31) if not torch.equal(before[u], sampler.memory[u])]
    assert set(changed) <= {3, 8}
    start(sampler, 0, encoded, pool)
    for _ in range(20):
        part_losses(batch_of(pool, 200), encoded, sampler, BPR(), pool)
    for u in range(1, 31):
        own = sampler.memory[u].tolist()
        assert not set(own) & (pool.used[u] | {0})
        assert len(set(own)) == 5


def test_what_is_in_memory_takes_no_second_slot():
    sampler, *_ = ready(srns_memory=3, candidate_num=6)
    for _ in range(50):
        items = torch.tensor([[7, 7, 8, 8, 9, 7], [7, 7, 7, 7, 7, 8]])
        renew(sampler, [1, 2], items, torch.randn(2, 6))
        assert sorted(sampler.memory[1].tolist()) == [7, 8, 9]
        assert set(sampler.memory[2].tolist()) == {7, 8}  # too few: repeated


@pytest.mark.parametrize(
    ("warmup", "weights"), [(0, [2.0, 2.0, 2.0]), (4, [0.0, 0.5, 2.0])], ids=str
)
def test_the_deviations_weight_rises(warmup, weights):
    sampler = SRNS(srns_alpha=2.0, srns_warmup=warmup)
    for sampler.epoch, weight in zip((0, 1, 9), weights, strict=True):
        assert sampler.deviation_weight() == weight


def test_one_negative_left():
    assert_draws_what_is_left(SRNS())


@pytest.mark.parametrize("scale", [0.0, 40.0, 1e4])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(SRNS(), BPR(), scale)


def test_a_model_without_embeddings_is_refused():
    text = "model=ConvNCF: sampler=srns needs a model whose scores are inner products"
    with pytest.raises(UserError, match=text):
        Config("ConvNCF", sampler="srns")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"srns_memory": 0}, "srns_memory=0: must be an integer > 0"),
        ({"srns_memory": 72}, "srns_memory=72: must be < candidate_num=72"),
        ({"srns_alpha": -1}, "srns_alpha=-1: must be a number >= 0"),
        ({"srns_warmup": -1}, "srns_warmup=-1: must be an integer >= 0"),
        ({"srns_tau": 0}, "srns_tau=0: must be a number > 0"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 1"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
        ({"candidate_distribution": "in_batch"}, "candidate_distribution=in_batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        SRNS(**keys)
