"""AOBPR: loss and gradient, the distribution of its draws by enumeration, when it ranks anew."""

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
    toy_pool,
)

from recbole_hns.batch import Batch
from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.aobpr import AOBPR, truncated_geometric
from recbole_hns.training.step import part_losses

USER, DRAWS = 7, 60_000


def ready(dim=3, scale=1.0, dtype=torch.float32, **keys):
    """A sampler before its first draw, a model, a pool and the negatives of USER."""
    sampler = AOBPR(**keys)
    pool = set_up(sampler, toy_pool(), dim)
    negatives = [j for j in range(1, pool.item_num) if j not in pool.used[USER]]
    return sampler, FakeEncoded.random(pool, dim, scale, dtype), pool, negatives


def draw(sampler, encoded, pool, num=DRAWS):
    """What ``num`` positives of USER draw, ``[num, 1]``."""
    user = torch.full((num,), USER)
    with torch.no_grad():
        return sampler.propose(Batch.of(user, user), encoded, pool).items


def test_loss_and_gradient():
    sampler, encoded, pool, _ = ready(aobpr_lambda=5.0, dtype=torch.float64)
    proposed, part = recorded(sampler, "propose"), batch_of(pool)
    found, _ = part_losses(part, encoded, sampler, BPR(), pool)
    expected = 0
    for u, i, (j,) in zip(part.user, part.pos_item, proposed[0].items.tolist(), strict=True):
        pos, neg = (encoded.user_table[u] @ encoded.item_table[item] for item in (i, j))
        expected = expected + bpr(pos, neg) / len(part.user)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(*(gradients(x, encoded.tables) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)
    assert_no_own_item(part.user, proposed[0].items, pool)


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 2.0, 9.0, 1e3, 1e300])
def test_ranks_of_the_truncated_geometric(scale):
    n = 12
    rank = truncated_geometric(scale, n, (DRAWS,), torch.device("cpu")).numpy()
    assert 0 <= rank.min() <= rank.max() < n
    weight = np.exp(-np.arange(n) / scale)
    assert_drawn_by(weight, rank, list(range(n)))


@pytest.mark.parametrize("scale", [2.0, 15.0])
def test_draws_by_factor_and_rank(scale):
    sampler, encoded, pool, negatives = ready(aobpr_lambda=scale)
    with torch.no_grad():
        encoded.user_table[USER] = torch.tensor([0.5, -1.0, 0.0])
    items = draw(sampler, encoded, pool)
    table = encoded.item_table.detach().double().numpy()[1:]
    user = encoded.user_table.detach().double().numpy()[USER]
    n = len(table)
    factor = np.abs(user) * table.std(axis=0)
    by_rank = np.exp(-np.arange(n) / scale)
    probability = np.zeros(n + 1)
    for f, fraction in enumerate(factor / factor.sum()):
        order = sorted(range(n), key=lambda j: -table[j, f])
        for rank, weight in enumerate(by_rank / by_rank.sum()):
            probability[1 + order[rank if user[f] > 0 else n - 1 - rank]] += fraction * weight
    # what hits an item of the user's is drawn again
    assert_drawn_by(probability[negatives], items, negatives)


@pytest.mark.parametrize("best_is_own", [False, True])
def test_with_one_factor_it_ranks_by_score(best_is_own):
    sampler, encoded, pool, negatives = ready(dim=1, aobpr_lambda=1e-9)
    best = min(pool.used[USER]) if best_is_own else negatives[5]
    with torch.no_grad():
        encoded.item_table[best] = 9 * encoded.user_table[USER].sign()
    items = draw(sampler, encoded, pool, 200)
    # rank 0 is the user's best item, which is drawn again until any negative is
    assert set(items.ravel().tolist()) == (set(negatives) if best_is_own else {best})


def test_items_are_ranked_anew_after_n_ln_n_draws():
    sampler, encoded, pool, _ = ready()
    n = pool.item_num - 1
    rankings = []
    for _ in range(2 * int(n * math.log(n)) // 50 + 3):
        with torch.no_grad():
            encoded.item_table.normal_()
        draw(sampler, encoded, pool, 50)
        rankings.append(sampler.get_extra_state()["ranking"])
    changes = [k for k in range(1, len(rankings)) if rankings[k] is not rankings[k - 1]]
    period = math.ceil(n * math.log(n) / 50)
    assert changes == [period, 2 * period][: len(changes)] != []


def test_one_negative_left():
    assert_draws_what_is_left(AOBPR(aobpr_lambda=2.0))


@pytest.mark.parametrize("scale", [0.0, 40.0], ids=["zero", "1e4"])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(AOBPR(aobpr_lambda=5.0), BPR(), scale)


def test_a_model_without_embeddings_is_refused():
    text = "model=ConvNCF: sampler=aobpr needs a model whose scores are inner"
    with pytest.raises(UserError, match=text):
        Config("ConvNCF", sampler="aobpr")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"aobpr_lambda": -1}, "aobpr_lambda=-1: must be a number > 0"),
        ({"candidate_num": 2}, "candidate_num=2: must be 1"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        AOBPR(**keys)
