"""Kernel: loss and gradient, draws by chi-square on every path, and the weights."""

import math

import numpy as np
import pytest
import torch
from fakes import (
    FakeEncoded,
    FakePredicted,
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
from recbole_hns.ops import devices
from recbole_hns.sampler import kernel as kernel_module
from recbole_hns.sampler.kernel import PROPOSALS, Kernel
from recbole_hns.training.step import part_losses

USER, DRAWS = 7, 60_000

KEYS = [{"kernel_alpha": 3.0}, {"kernel_alpha": 3.0, "kernel_refresh": "epoch"}]


def ready(path="scoring", monkeypatch=None, dtype=torch.float32, **keys):
    """A sampler whose epoch has started, a model, a pool and the negatives of USER."""
    if path == "pool":
        monkeypatch.setattr(kernel_module, "POOL_SIZE", DRAWS // 3)
        keys["kernel_refresh"] = "epoch"
    elif path == "rejection":
        monkeypatch.setattr(devices, "most_scored", lambda tensor: 0)
    sampler = Kernel(**keys)
    pool = set_up(sampler, toy_pool())
    encoded = FakeEncoded.random(pool, dtype=dtype)
    negatives = [j for j in range(1, pool.item_num) if j not in pool.used[USER]]
    return sampler, encoded, pool, negatives


def draw(path, sampler, encoded, pool, num=DRAWS // 5):
    """Items that positives of USER draw, and their log K; of a pool, all that is in it."""
    start(sampler, 0, encoded, pool)
    if path == "pool":
        return sampler.pool[USER], sampler.pool_log_k[USER]
    user = torch.full((num,), USER)
    with torch.no_grad():
        candidates = sampler.propose(Batch.of(user, user), encoded, pool)
    return candidates.items, candidates.log_q


def scores_of(encoded, items):
    return (encoded.item_table[items] @ encoded.user_table[USER]).detach().double().numpy()


@pytest.mark.parametrize("path", ["scoring", "rejection"])
@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_loss_and_gradient(keys, path, monkeypatch):
    sampler, encoded, pool, _ = ready(path, monkeypatch, torch.float64, **keys)
    start(sampler, 1, encoded, pool)
    proposed, part = recorded(sampler, "propose"), batch_of(pool)
    found, _ = part_losses(part, encoded, sampler, BPR(), pool)
    expected = 0
    for u, i, items in zip(part.user, part.pos_item, proposed[0].items.tolist(), strict=True):
        pos, *scores = (encoded.user_table[u] @ encoded.item_table[j] for j in [i, *items])
        weights = [math.exp(r) / (3 * r**2 + 1) for r in (score.item() for score in scores)]
        for weight, score in zip(weights, scores, strict=True):
            expected = expected + weight / sum(weights) * bpr(pos, score) / len(part.user)
    # log K is float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(*(gradients(x, encoded.tables) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert_no_own_item(part.user, proposed[0].items, pool)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("path", ["scoring", "rejection", "pool"])
def test_draws(path, alpha, monkeypatch):
    sampler, encoded, pool, negatives = ready(path, monkeypatch, kernel_alpha=alpha)
    items, log_k = draw(path, sampler, encoded, pool)
    k = alpha * scores_of(encoded, negatives) ** 2 + 1
    assert_drawn_by(k, items, negatives)
    expected = np.log(alpha * scores_of(encoded, items) ** 2 + 1)
    np.testing.assert_allclose(log_k.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", ["scoring", "rejection", "pool"])
def test_embeddings_of_zero_are_drawn_uniformly(path, monkeypatch):
    sampler, encoded, pool, negatives = ready(path, monkeypatch)
    with torch.no_grad():
        for table in encoded.tables:
            table.zero_()
    items, _ = draw(path, sampler, encoded, pool)
    assert_drawn_by(np.ones(len(negatives)), items, negatives)


def test_it_draws_uniformly_where_all_proposals_are_rejected(monkeypatch):
    sampler, encoded, pool, negatives = ready("rejection", monkeypatch)
    with torch.no_grad():  # only the user's own items have a length
        encoded.item_table.zero_()
        encoded.item_table[list(pool.used[USER])] = 1e9
        encoded.user_table.fill_(1e9)
    items, _ = draw("rejection", sampler, encoded, pool, 2000)
    assert_drawn_by(np.ones(len(negatives)), items, negatives)


def test_a_model_without_tables_has_all_items_scored(monkeypatch):
    sampler, encoded, pool, negatives = ready("rejection", monkeypatch, kernel_alpha=1.0)
    items, _ = draw("rejection", sampler, FakePredicted(encoded), pool)
    assert_drawn_by(scores_of(encoded, negatives) ** 2 + 1, items, negatives)


def test_pools_are_drawn_anew_every_epoch_and_their_slots_alike():
    sampler, encoded, pool, _ = ready(kernel_refresh="epoch")
    start(sampler, 0, encoded, pool)
    before = sampler.pool.clone()
    start(sampler, 1, encoded, pool)
    assert not torch.equal(before, sampler.pool)
    sampler.pool[USER] = torch.arange(50)
    user = torch.full((DRAWS // 5,), USER)
    items = sampler.propose(Batch.of(user, user), encoded, pool).items
    assert_drawn_by(np.ones(50), items, list(range(50)))


def test_kernel_sum_over_all_items():
    user_e, table = torch.randn(4, 3).double(), torch.randn(9, 3).double()
    expected = (2.5 * (user_e @ table.t()).square() + 1).sum(dim=1)
    found = kernel_module.kernel_sum(user_e, table.t() @ table, 2.5, 9)
    torch.testing.assert_close(found, expected)


def test_weights():
    scores = torch.randn(6, 5, dtype=torch.float64)
    candidates = Candidates(torch.ones(6, 5).long(), log_q=(2 * scores.square() + 1).log())
    weight = torch.exp(scores) / (2 * scores.square() + 1)
    expected = weight / weight.sum(dim=1, keepdim=True)
    part = Batch.of(torch.arange(6), torch.arange(6))
    found = Kernel().select(Scores(torch.zeros(6, 1), scores), candidates, part).weight
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("refresh", "items", "expected"),
    [("batch", 20_000, 5), ("batch", 20_001, 5 * PROPOSALS), ("epoch", 20_001, 5)],
)
def test_memory_of_the_proposals_is_counted(refresh, items, expected):
    sampler, *_ = ready(kernel_refresh=refresh)
    assert sampler.scored_num(items, 100) == expected


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_one_negative_left(keys):
    assert_draws_what_is_left(Kernel(**keys))


@pytest.mark.parametrize("keys", KEYS, ids=str)
@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale, keys):
    assert_finite_step(Kernel(**keys), BPR(), scale)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"kernel_alpha": -1}, "kernel_alpha=-1: must be a number >= 0"),
        ({"kernel_refresh": "never"}, "kernel_refresh=never: must be batch or epoch"),
        ({"candidate_distribution": "popularity"}, "must be uniform"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        Kernel(**keys)
