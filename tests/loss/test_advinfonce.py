"""AdvInfoNCE, its gradient and its adversary against their formulas."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from conftest import prepared
from hypothesis import given
from literal_loss import (
    LARGE,
    assert_has_gradient,
    assert_is,
    assert_is_finite,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.batch import Batch, Negatives, Scores
from recbole_hns.errors import UserError
from recbole_hns.loss.advinfonce import AdvInfoNCE
from recbole_hns.loss.softmax import Softmax

#: g of each item, for every user.
G = [0.3, -1.2, 2.0, 0.0, 0.7, -0.4]


def made(num, g=G, **keys):
    """A loss whose adversary has the same scores for 4 users, of a number of items."""
    loss = AdvInfoNCE(**{"loss_tau": 0.5, "advinfonce_k": 3.0, **keys})
    loss.setup(SimpleNamespace(n_users=4, n_items=num), 1)
    loss.double()
    with torch.no_grad():
        loss.adversary_user.fill_(1 / 64)
        loss.adversary_item.copy_(torch.tensor(g[:num], dtype=torch.float64).unsqueeze(1))
    return loss


def formula_of(g):
    def formula(pos, neg, weights):
        used = [(r, w, h) for r, w, h in zip(neg, weights, g) if w]
        if not used:
            return 0.0
        total = math.fsum(math.exp(h) for _, _, h in used)
        others = 0.0
        for r, w, h in used:
            delta = math.log(len(used) * math.exp(h) / total)
            others += len(used) * w * math.exp(delta) * math.exp((r - pos) / 0.5)
        return math.log(1 + 3 * others)

    return formula


@given(parts())
def test_value(part):
    assert_is(made(part[1].shape[1]), formula_of(G), part)


def test_gradient():
    assert_has_gradient(made(5), formula_of(G))


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(made(3, [0.5] * 3), formula_of([0.5] * 3))


def test_nan():
    assert_nan_is_seen(made(2))


def test_with_a_constant_adversary_and_k_of_1_it_is_the_softmax_loss_with_the_positive():
    part = [[0.3]], [[0.2, -1.0, 0.7]], [[0.5, 0.2, 0.3]]
    loss = made(3, [0.5] * 3, advinfonce_k=1.0)
    expected = value(Softmax(loss_tau=0.5, softmax_positive=True), *part)
    for found, other in zip(value(loss, *part), expected, strict=True):
        assert found == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize("items", [[[4, 0, 2]], [[4, 0, 2], [1, 1, 5]]])
def test_the_adversary_scores_the_items_of_each_row(items):
    loss = made(6)
    scores = Scores(torch.tensor([[0.1], [0.4]]), torch.tensor([[0.3, 0.2, 0.5]] * 2))
    scores = Scores(*(each.double() for each in scores))
    part = Batch.of(torch.tensor([1, 3]), torch.tensor([3, 3]))
    found = loss(scores, Negatives(torch.tensor(items), scores), part)
    expected = 0.0
    for row, pos in enumerate((0.1, 0.4)):
        g = [G[item] for item in items[min(row, len(items) - 1)]]
        expected += formula_of(g)(pos, [0.3, 0.2, 0.5], [1 / 3] * 3) / 2
    assert found.item() == pytest.approx(expected)


def test_excluded_candidates_do_not_enter():
    scores = Scores(torch.zeros(1, 1).double(), torch.tensor([[0.5, -math.inf, 1.0]]).double())
    where = torch.tensor([0]), torch.tensor([1])
    negatives = Negatives(None, scores, excluded=where, num=torch.tensor([[2]]))
    found = made(3)(scores, negatives, Batch.of(torch.tensor([1]), torch.tensor([3])))
    expected = formula_of([G[0], G[2]])(0.0, [0.5, 1.0], [0.5, 0.5])
    assert found.item() == pytest.approx(expected)


def test_large_scores():
    for pos, neg in LARGE:
        assert_is_finite(made(len(neg)), [[pos]], [neg])


def test_the_adversary_raises_the_loss_in_its_epochs(toy, monkeypatch):
    monkeypatch.setattr("recbole_hns.loss.advinfonce.LEARNING_RATE", 0.01)
    keys = {"advinfonce_interval": 2, "advinfonce_passes": 2, "advinfonce_candidate_num": 20}
    _, train, _, trainer = prepared(sampler="all", loss="advinfonce", **keys, **toy)
    loss, pool = trainer.loss, trainer._pool_of(train)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(std=0.5)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    user = torch.arange(1, 31)
    with trainer.adapter.encode() as encoded, torch.no_grad():
        every = encoded.user_scores(user, None)
        scores = Scores(torch.zeros(30, 1), every)
        negatives = Negatives(None, scores)

        def losses():
            return loss(scores, negatives, Batch.of(user, user)).item()

        found = [losses()]
        for epoch in range(8):
            loss.start_epoch(epoch, encoded, pool)
            found.append(losses())
    learned = [after != earlier for earlier, after in pairwise(found)]
    assert learned == [epoch in (2, 4) for epoch in range(8)]
    assert found == sorted(found)
    for earlier, parameter in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(earlier, parameter)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"advinfonce_k": 0.0}, "advinfonce_k=0.0: must be a number > 0"),
        ({"advinfonce_passes": -1}, "advinfonce_passes=-1: must be an integer >= 0"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        AdvInfoNCE(**keys)
