"""Talos, its gradient and its thresholds against their formulas."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import prepared
from hypothesis import given
from literal_loss import (
    assert_has_gradient,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.talos import Talos

#: Of 8 items, negatives of each of 4 users, and the top 2 are wanted.
NEGATIVES, LEVEL = [5, 6, 2, 7], 2 / 8


def made(pinball=True):
    """A loss with thresholds of 0."""
    loss = Talos(loss_tau=0.5, talos_k=2)
    loss.setup(SimpleNamespace(n_users=4, n_items=9), 1)
    loss.double()
    loss.negative_num.copy_(torch.tensor(NEGATIVES))
    if not pinball:
        loss._pinball = lambda beta, negatives, part: 0.0
    return loss


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > -30 else x


def formula(pos, neg, weights, beta=0.0):
    used = [(n, w) for n, w in zip(neg, weights, strict=True) if w]
    if not used:
        return 0.0
    logs = [math.log(len(used) * w) + log_sigmoid(n - beta) / 0.5 for n, w in used]
    return math.log(math.fsum(map(math.exp, logs))) - log_sigmoid(pos - beta) / 0.5


def pinball(score, beta):
    return (1 - LEVEL) * (score - beta) if score > beta else LEVEL * (beta - score)


def test_gradient():
    assert_has_gradient(made(pinball=False), formula)


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(made(pinball=False), formula)


def test_nan():
    assert_nan_is_seen(made())


@given(parts())
def test_value(part):
    pos, neg, weight, scale = part
    found, *gradients = value(made(), pos, neg, weight, scale, size=7)
    expected = 0.0
    for b, row in enumerate(neg.tolist()):
        weights = [1 / len(row)] * len(row) if weight is None else weight[b].tolist()
        if any(weights):
            of_negatives = sum(w * pinball(n, 0) for n, w in zip(row, weights) if w)
            share = NEGATIVES[b] / 8
            total = formula(pos[b, 0], row, weights)
            total += (1 - share) * pinball(pos[b, 0], 0) + share * of_negatives
            expected += (1.0 if scale is None else scale[b]) * total / 7
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradient_of_the_thresholds():
    loss, beta = made(), [0.3, -0.2, 0.0, 1.0]
    with torch.no_grad():
        loss.beta.copy_(torch.tensor(beta))
    rng, user = np.random.default_rng(2), [2, 0, 2]
    pos, neg = rng.normal(size=(3, 1)), rng.normal(size=(3, 5))
    scores = Scores(torch.tensor(pos), torch.tensor(neg))
    part = Batch(torch.tensor(user), torch.zeros(3, dtype=torch.int64), 3)
    loss(scores, Negatives(None, scores), part).backward()
    expected = [0.0] * 4
    for u, p, row in zip(user, pos[:, 0], neg, strict=True):
        slopes = [-(1 - LEVEL) if s > beta[u] else LEVEL for s in (p, *row)]
        share = NEGATIVES[u] / 8
        expected[u] += ((1 - share) * slopes[0] + share * np.mean(slopes[1:])) / 3
    assert loss.beta.grad.tolist() == pytest.approx(expected)


def test_excluded_candidates_do_not_enter():
    scores = Scores(torch.zeros(1, 1), torch.tensor([[0.5, -math.inf, 1.0]]))
    negatives = Negatives(
        None,
        scores,
        excluded=(torch.tensor([0]), torch.tensor([1])),
        num=torch.tensor([[2]]),
    )
    part = Batch.of(torch.tensor([1]), torch.tensor([3]))
    found = made()(scores, negatives, part)
    others = Scores(scores.pos, torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(found, made()(others, Negatives(None, others), part))


def test_thresholds_become_the_quantile_of_fixed_scores(toy):
    """Batches of an epoch, with negatives drawn for each row, and scores that do not change."""
    _, train, _, trainer = prepared(sampler="all", loss="talos", talos_k=5, **toy)
    pool, loss = trainer._pool_of(train), trainer.loss
    loss.start_epoch(0, None, pool)
    users, items = len(loss.beta), pool.item_num
    scores = torch.randn(users, items, generator=torch.Generator().manual_seed(0))
    pairs = [(u, i) for u in range(1, users) for i in pool.used[u]]
    user, item = (torch.tensor(column) for column in zip(*pairs, strict=True))
    optimizer = torch.optim.Adam([loss.beta], lr=0.02)
    for step in range(900):
        optimizer.param_groups[0]["lr"] = 0.02 * 0.996**step
        neg = scores[user].gather(1, pool.draw(user, 20))
        each = Scores(scores[user, item].unsqueeze(1), neg)
        optimizer.zero_grad()
        loss(each, Negatives(None, each), Batch.of(user, item)).backward()
        optimizer.step()
    ordered = scores[:, 1:].sort(dim=1, descending=True).values
    for u in range(1, users):
        if pool.used[u]:
            assert ordered[u, 6] - 0.02 <= loss.beta[u] <= ordered[u, 3] + 0.02


def test_thresholds_have_a_learning_rate_of_their_own(toy):
    _, _, _, trainer = prepared(
        sampler="all",
        loss="talos",
        talos_lr=0.002,
        learning_rate=0.1,
        weight_decay=1e-3,
        lr_decay=0.5,
        lr_decay_step=1,
        **toy,
    )
    trainer.pool = SimpleNamespace(negative_num=lambda users: torch.zeros(len(users)))
    for epoch, factor in ((0, 1), (1, 0.5), (3, 0.125)):
        trainer._start_epoch(epoch)
        model, own = trainer.optimizer.param_groups
        assert (model["lr"], own["lr"]) == pytest.approx((0.1 * factor, 2e-3 * factor))
    assert (model["weight_decay"], own["weight_decay"]) == (1e-3, 0)
    assert own["params"][0] is trainer.loss.beta
    # nothing of our own, which optimizers in checkpoints of before would lack
    assert own.keys() == torch.optim.Adam([trainer.loss.beta]).param_groups[0].keys()


def test_k_is_less_than_the_number_of_items():
    with pytest.raises(UserError, match="talos_k=20: must be < 9"):
        Talos().setup(SimpleNamespace(n_users=4, n_items=9), 1)
