"""LLPAUC, its gradient and its min-max against their formulas."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import first_batch, prepared, step
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
from recbole_hns.loss.llpauc import LLPAUC

#: Values of a, b, s+, s- and gamma that are within their bounds.
VALUES = {"a": 0.8, "b": 0.3, "half_s_pos": 0.4, "half_s_neg": 0.6, "half_gamma": -0.15}


def made(**keys):
    loss = LLPAUC(**{"llpauc_loss_alpha": 0.6, "llpauc_loss_beta": 0.2, **keys})
    loss.setup(SimpleNamespace(n_users=4, n_items=9), 1)
    loss.double()
    with torch.no_grad():
        for name, number in VALUES.items():
            getattr(loss, name).fill_(number)
    return loss


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def bracket(x):
    return math.log(1 + math.exp(5 * x)) / 5


def formula_of(values, alpha=0.6, beta=0.2):
    a, b, half_s_pos, half_s_neg, half_gamma = values
    s_pos, s_neg, g = 2 * half_s_pos, 2 * half_s_neg, 2 * half_gamma

    def formula(pos, neg, weights):
        used = [(sigmoid(r), w) for r, w in zip(neg, weights, strict=True) if w]
        if not used:
            return 0.0
        p = sigmoid(pos)
        positive = -s_pos - bracket(2 * (1 + g) * p - (p - a) ** 2 - s_pos) / alpha
        terms = [w * bracket(2 * (1 + g) * n + (n - b) ** 2 - s_neg) for n, w in used]
        return positive + s_neg + math.fsum(terms) / beta - g**2

    return formula


FORMULA = formula_of(VALUES.values())


@given(parts())
def test_value(part):
    assert_is(made(), FORMULA, part)


def test_gradient():
    assert_has_gradient(made(), FORMULA)


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(made(), FORMULA)


def test_nan():
    assert_nan_is_seen(made())


def test_gradient_of_the_losss_own_parameters():
    """As the formula's, with the other sign where the loss is maximised."""
    loss, rng = made(), np.random.default_rng(0)
    pos, neg, weight = rng.normal(size=(3, 1)), rng.normal(size=(3, 5)), rng.random((3, 5))
    value(loss, pos, neg, weight, [1.0, 0.5, 2.0], size=4)

    def total(values):
        formula = formula_of(values)
        rows = zip([1.0, 0.5, 2.0], pos[:, 0], neg, weight, strict=True)
        return math.fsum(scale * formula(p, n, w) / 4 for scale, p, n, w in rows)

    for number, name in enumerate(VALUES):
        ends = []
        for change in (1e-6, -1e-6):
            values = list(VALUES.values())
            values[number] += change
            ends.append(total(values))
        expected = (ends[0] - ends[1]) / 2e-6
        sign = -1 if name in ("half_s_pos", "half_gamma") else 1
        assert getattr(loss, name).grad.item() == pytest.approx(sign * expected, rel=1e-5)


def fixed_scores():
    """Scores of 50 positives with 8 negatives each, and their sigmoids."""
    rng = np.random.default_rng(4)
    pos, neg = rng.normal(0.5, 1, size=(50, 1)), rng.normal(-0.5, 1, size=(50, 8))
    scores = Scores(torch.tensor(pos), torch.tensor(neg))
    part = Batch.of(torch.arange(50), torch.arange(50))
    return scores, part, *(1 / (1 + np.exp(-each.reshape(-1))) for each in (pos, neg))


def test_at_its_solution_it_is_the_square_loss_of_the_best_pairs(monkeypatch):
    """With a softplus that is sharp: of 20 of 50 positives and 40 of 400 negatives."""
    monkeypatch.setattr("recbole_hns.loss.llpauc.KAPPA", 1e7)
    loss = made(llpauc_loss_alpha=0.4, llpauc_loss_beta=0.1)
    scores, part, p, n = fixed_scores()
    best, hardest = np.sort(p)[-20:], np.sort(n)[-40:]
    a, b = best.mean(), hardest.mean()
    gamma = b - a
    # between the last term that counts and the first that does not
    of_pos = np.sort(2 * (1 + gamma) * p - (p - a) ** 2)[-21:-19].mean()
    of_neg = np.sort(2 * (1 + gamma) * n + (n - b) ** 2)[-41:-39].mean()
    with torch.no_grad():
        for name, number in zip(VALUES, (a, b, of_pos / 2, of_neg / 2, gamma / 2), strict=True):
            getattr(loss, name).fill_(number)
    found = loss(scores, Negatives(None, scores), part)
    found.backward()
    expected = np.mean([(1 - i + j) ** 2 for i in best for j in hardest])
    assert found.item() == pytest.approx(expected - 1, rel=1e-6)
    assert all(abs(parameter.grad.item()) < 1e-6 for parameter in loss.parameters())


def test_its_parameters_find_the_solution():
    loss = made(llpauc_loss_alpha=0.4, llpauc_loss_beta=0.1)
    scores, part, p, n = fixed_scores()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for number in range(800):
        optimizer.param_groups[0]["lr"] = 0.02 * 0.993**number
        optimizer.zero_grad()
        loss(scores, Negatives(None, scores), part).backward()
        optimizer.step()
    a, b, s_pos, s_neg, gamma = (
        (2 if "half" in name else 1) * getattr(loss, name).item() for name in VALUES
    )
    of_pos = 1 / (1 + np.exp(-5 * (2 * (1 + gamma) * p - (p - a) ** 2 - s_pos)))
    of_neg = 1 / (1 + np.exp(-5 * (2 * (1 + gamma) * n + (n - b) ** 2 - s_neg)))
    means = np.average(p, weights=of_pos), np.average(n, weights=of_neg)
    assert (of_pos.mean(), of_neg.mean()) == pytest.approx((0.4, 0.1), rel=0.05)
    assert (a, b) == pytest.approx(means, abs=0.01)
    assert gamma == pytest.approx(b - a, abs=0.02)


@pytest.mark.parametrize("far", [-9.0, 9.0])
def test_its_parameters_are_kept_in_bounds(far):
    loss = made()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.fill_(far)
    value(loss, [[0.3]], [[0.2, 0.1]])
    found = {name: parameter.item() for name, parameter in loss.named_parameters()}
    expected = (
        {"a": 1, "b": 1, "half_s_pos": 2, "half_s_neg": 2.5, "half_gamma": 0.5}
        if far > 0
        else {"a": 0, "b": 0, "half_s_pos": -0.5, "half_s_neg": 0, "half_gamma": 0}
    )
    assert found == expected


@pytest.mark.parametrize(("a", "b", "lowest"), [(0.25, 0.5, -0.25), (0.75, 0.5, -0.5)])
def test_gamma_is_kept_where_the_loss_falls_with_positives_and_rises_with_negatives(a, b, lowest):
    loss = made()
    with torch.no_grad():
        for name, number in (("a", a), ("b", b), ("half_gamma", -0.5)):
            getattr(loss, name).fill_(number)
    _, of_pos, of_neg = value(loss, [[-3.0], [0.0], [3.0]], [[-3.0, 0.0, 3.0]] * 3)
    assert 2 * loss.half_gamma.item() == lowest
    assert (of_pos <= 0).all()
    assert (of_neg >= 0).all()


def test_excluded_candidates_do_not_enter():
    found = []
    for neg, excluded in (([0.5, -math.inf, 1.0], True), ([0.5, 1.0], False)):
        scores = Scores(torch.zeros(1, 1), torch.tensor([neg]))
        where = (torch.tensor([0]), torch.tensor([1])) if excluded else None
        num = torch.tensor([[2]]) if excluded else None
        negatives = Negatives(None, scores, excluded=where, num=num)
        found.append(made()(scores, negatives, Batch.of(torch.tensor([1]), torch.tensor([3]))))
    torch.testing.assert_close(*found)


def test_large_scores():
    for pos, neg in LARGE:
        assert_is_finite(made(), [[pos]], [neg])


@pytest.mark.parametrize("sharing", ["batch", "row"])
@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_its_own_parameters_learn_the_same_in_parts(model, similarity, sharing, toy, monkeypatch):
    keys = {"similarity": similarity, "candidate_sharing": sharing, "candidate_num": 9, **toy}
    _, train, _, trainer = prepared(model=model, sampler="all", loss="llpauc", **keys)
    batch = first_batch(trainer, train, 23)
    gradients = []
    for pair_bytes in (64, 512 * 2**20 // (3 * 9)):
        monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", pair_bytes)
        torch.manual_seed(5)
        trainer.loss.zero_grad()
        step(trainer, batch)[0].backward()
        gradients.append([parameter.grad.clone() for parameter in trainer.loss.parameters()])
    assert all(gradient.item() for gradient in gradients[0])
    if sharing == "batch":  # own candidates are drawn part by part
        torch.testing.assert_close(*gradients)


def test_training_raises_positives_over_negatives(toy):
    _, train, _, trainer = prepared(
        sampler="all", loss="llpauc", candidate_num="all", learning_rate=0.05, epochs=80, **toy
    )
    trainer.fit(train, saved=False, verbose=False)
    model, pool = trainer.model, trainer.pool
    scores = (model.user_embedding.weight @ model.item_embedding.weight.t()).detach()
    above = []
    for user in range(1, len(scores)):
        own = list(pool.used[user])
        others = [item for item in range(1, pool.item_num) if item not in own]
        above.append((scores[user, own].unsqueeze(1) > scores[user, others]).float().mean())
    # of all positives, not of the best 0.7 alone
    assert torch.stack(above).mean() > 0.8


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"llpauc_loss_alpha": 0.0}, "llpauc_loss_alpha=0.0: must be a number > 0 and <= 1"),
        ({"llpauc_loss_beta": 1.5}, "llpauc_loss_beta=1.5: must be a number > 0 and <= 1"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        LLPAUC(**keys)
