"""SL@K, its gradient and its thresholds against their formulas."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import prepared
from hypothesis import given
from literal_loss import (
    assert_has_gradient,
    assert_is,
    assert_nan_is_seen,
    assert_weight_0_does_not_enter,
    parts,
    value,
)

from recbole_hns.errors import UserError
from recbole_hns.loss.sl_at_k import SLAtK
from recbole_hns.loss.softmax import Softmax

BETA = [0.3, -0.5, 1.0, 0.0]


def made(**keys):
    loss = SLAtK(**{"loss_tau": 0.5, "sl_weight_tau": 0.7, "sl_k": 2, **keys})
    loss.setup(SimpleNamespace(n_users=4, n_items=9), 1)
    return loss


def formula_of(loss):
    """sigmoid((r_ui - beta_u) / tau_w) log sum_j n w_j exp((r_uj - r_ui) / tau), beta_u being 0."""

    def formula(pos, neg, weights):
        used = [(n, w) for n, w in zip(neg, weights, strict=True) if w]
        if not used:
            return 0.0
        total = math.fsum(len(used) * w * math.exp((n - pos) / loss.loss_tau) for n, w in used)
        return math.log(total) / (1 + math.exp(-pos / loss.sl_weight_tau))

    return formula


@given(parts())
def test_value(part):
    assert_is(made(), formula_of(made()), part)


def test_gradient():
    assert_has_gradient(made(), formula_of(made()))


def test_a_weight_of_0():
    assert_weight_0_does_not_enter(made(), formula_of(made()))


def test_nan():
    assert_nan_is_seen(made())


def test_each_user_has_a_threshold():
    loss = made()
    loss.beta.copy_(torch.tensor(BETA))
    pos, neg = [[0.2], [0.4], [0.9], [-0.3]], [[0.1, 0.6]] * 4
    expected = 0.0
    for (p,), n, beta in zip(pos, neg, BETA, strict=True):
        weight = 1 / (1 + math.exp(-(p - beta) / 0.7))
        expected += weight * math.log(sum(math.exp((each - p) / 0.5) for each in n)) / 4
    assert value(loss, pos, neg, size=4)[0] == pytest.approx(expected)


def test_with_a_large_tau_w_it_is_half_the_softmax_loss():
    part = [[0.3]], [[0.2, -1.0, 0.7]], [[0.5, 0.2, 0.3]]
    for found, expected in zip(
        value(made(sl_weight_tau=1e9), *part), value(Softmax(loss_tau=0.5), *part), strict=True
    ):
        assert found == pytest.approx(np.asarray(expected) / 2, rel=1e-6)


@pytest.mark.parametrize("num", ["all", 30])
def test_thresholds(num, toy):
    keys = {"loss": "sl_at_k", "sl_k": 3, "sl_every": 2, "sl_candidate_num": num, **toy}
    _, train, _, trainer = prepared(sampler="all", candidate_num=5, **keys)
    loss, model, pool = trainer.loss, trainer.model, trainer._pool_of(train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    scores = (model.user_embedding.weight @ model.item_embedding.weight.t()).detach()
    with trainer.adapter.encode() as encoded, torch.no_grad():
        for epoch in (0, 1, 3):
            loss.start_epoch(epoch, encoded, pool)
            assert not loss.beta.any()
        loss.start_epoch(2, encoded, pool)
    for u, beta in enumerate(loss.beta.tolist()):
        every = sorted(scores[u, 1:].tolist(), reverse=True)
        if num == "all":
            assert beta == pytest.approx(every[2])
        else:
            # that of the own items, or a higher one by what was drawn
            own = sorted((scores[u, i].item() for i in pool.used[u]), reverse=True)
            lowest = own[2] if len(own) > 2 else every[-1]
            assert lowest - 1e-6 <= beta <= every[2] + 1e-6
            assert any(beta == pytest.approx(each) for each in every)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"sl_candidate_num": 5}, "sl_candidate_num=5: must be >= sl_k=20, or all"),
        ({"sl_k": 0}, "sl_k=0: must be an integer > 0"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        SLAtK(**keys)


def test_k_is_less_than_the_number_of_items():
    with pytest.raises(UserError, match="sl_k=20: must be < 9"):
        SLAtK().setup(SimpleNamespace(n_users=4, n_items=9), 1)
