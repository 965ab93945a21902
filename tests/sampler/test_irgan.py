"""IRGAN: the generator's draws by chi-square, its gradient by enumeration, and the cycle."""

import copy

import numpy as np
import pytest
import torch
from fakes import (
    FakeEncoded,
    FakePredicted,
    assert_draws_what_is_left,
    assert_finite_step,
    batch_of,
    bpr,
    gradients,
    set_up,
    start,
    toy_pool,
)
from scipy import stats

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.irgan import IRGAN, draw_rows, reinforce_loss
from recbole_hns.training.step import part_losses


def ready(dtype=torch.float32, **keys):
    """A sampler whose generator has an opinion, a model and a pool."""
    sampler = IRGAN(**keys)
    pool = set_up(sampler, toy_pool())
    for table in (sampler.generator_user, sampler.generator_item):
        table.normal_(0, 0.3)
    return sampler, FakeEncoded.random(pool, dtype=dtype), pool


def test_drawn_columns_have_their_weights():
    weight = torch.tensor([[0.0, 3, 0, 1, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 2]]).double()
    row = torch.tensor([0, 1, 2]).repeat_interleave(40_000)
    drawn = draw_rows(weight, row).view(3, -1)
    for each, expected in zip(drawn, weight, strict=True):
        counts = torch.bincount(each, minlength=5).double()
        assert (counts[expected == 0] == 0).all()
        some = expected > 0
        numbers = expected[some] / expected.sum() * 40_000
        assert ((counts[some] - numbers) ** 2 / numbers).sum() < 10.8  # 0.1% point, 1 degree


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_negatives_follow_the_policy_without_positives(temperature):
    sampler, _, pool = ready(irgan_temperature=temperature)
    user = torch.tensor([3, 7])
    draws = torch.stack([sampler.draw_negatives(user, pool) for _ in range(1500)])
    used = [pool.used[u] for u in user.tolist()]
    assert draws.shape[1] == sum(map(len, used))
    split = draws.split(list(map(len, used)), dim=1)
    for u, own, each in zip(user.tolist(), used, split, strict=True):
        scores = sampler.generator_user[u] @ sampler.generator_item.t() + sampler.generator_bias
        scores = scores.tolist()
        negatives = [j for j in range(1, len(scores)) if j not in own]
        powers = np.exp([scores[j] / temperature for j in negatives])
        counts = np.bincount(each.reshape(-1), minlength=len(scores))
        assert counts[negatives].sum() == each.numel()
        expected = powers / powers.sum() * each.numel()
        assert stats.chisquare(counts[negatives], expected).pvalue > 1e-3


def test_proposal_mixes_policy_and_positives():
    sampler, _, pool = ready(irgan_mix=0.3)
    user = torch.tensor([2, 5])
    log_p = torch.log_softmax(sampler.generator_scores(user), dim=1)
    found = sampler.proposal(log_p.detach(), user, pool)
    for u, p, row in zip(user.tolist(), log_p.exp(), found, strict=True):
        own = pool.used[u]
        for j in range(len(row)):
            expected = 0.7 * p[j].item() + (0.3 / len(own) if j in own else 0)
            assert row[j].item() == pytest.approx(expected, abs=1e-7)
    assert found[:, 0].tolist() == [0, 0]
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))


def test_the_generators_gradient_is_that_of_the_expected_reward():
    """Five items: weighted by p', the draws' gradients add up to that of sum_j p_j rew_j."""
    scores = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    reward = torch.randn(5, dtype=torch.float64).tanh()
    p = torch.softmax(scores, dim=1)
    proposal = 0.8 * p.detach() + 0.2 * torch.tensor([0.5, 0, 0.5, 0, 0], dtype=torch.float64)
    (expected,) = torch.autograd.grad(-(p * reward).sum(), scores)
    found = 0
    for j in range(5):
        log_p = torch.log_softmax(scores, dim=1)
        items, row = torch.tensor([[j]]), torch.tensor([0])
        loss = reinforce_loss(log_p, proposal, row, items, reward[j].view(1, 1))
        found += proposal[0, j] * torch.autograd.grad(loss, scores)[0]
    torch.testing.assert_close(found, expected)


def test_the_generators_loss_is_a_mean_over_users_of_means_over_draws():
    log_p = torch.log_softmax(torch.randn(2, 6, dtype=torch.float64), dim=1)
    proposal = torch.rand(2, 6, dtype=torch.float64)
    row = torch.tensor([0, 0, 0, 1])
    items, reward = torch.randint(0, 6, (4, 2)), torch.randn(4, 2, dtype=torch.float64)
    means = []
    for user in (0, 1):
        terms = [
            -reward[k, n] * log_p[user, j].exp() / proposal[user, j] * log_p[user, j]
            for k in range(4)
            if row[k] == user
            for n, j in enumerate(items[k].tolist())
        ]
        means.append(sum(terms) / len(terms))
    found = reinforce_loss(log_p, proposal, row, items, reward)
    assert found.item() == pytest.approx(sum(means).item() / 2)


@pytest.mark.parametrize("predicted", [False, True])
def test_every_pair_keeps_its_negative_for_a_cycle(predicted):
    sampler, encoded, pool = ready(irgan_cycle=[2, 1])
    if predicted:
        encoded = FakePredicted(encoded)
    negatives, generators = [], []
    for epoch in range(4):
        start(sampler, epoch, encoded, pool)
        negatives.append(sampler.negatives.clone())
        generators.append(sampler.generator_item.detach().clone())
    assert torch.equal(negatives[0], negatives[1])
    assert not torch.equal(negatives[1], negatives[2])
    assert torch.equal(negatives[2], negatives[3])
    assert torch.equal(generators[0], generators[1])
    assert not torch.equal(generators[1], generators[2])

    part = batch_of(pool, 50)
    items = sampler.propose(part, encoded, pool).items
    pairs = sorted((u, i) for u in range(pool.user_num) for i in pool.used[u])
    rows = part.user.tolist(), part.pos_item.tolist(), items.tolist()
    for u, i, (j,) in zip(*rows, strict=True):
        assert j == negatives[3][pairs.index((u, i))]
        assert j not in pool.used[u] | {0}


def test_loss_and_gradient():
    sampler, encoded, pool = ready(torch.float64)
    start(sampler, 0, encoded, pool)
    part = batch_of(pool)
    found, negatives = part_losses(part, encoded, sampler, BPR(), pool)
    expected = 0
    rows = part.user.tolist(), part.pos_item.tolist(), negatives.items.tolist()
    for u, i, (j,) in zip(*rows, strict=True):
        pos, neg = (encoded.user_table[u] @ encoded.item_table[item] for item in (i, j))
        expected = expected + bpr(pos, neg) / len(part.user)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(*(gradients(x, encoded.tables) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_generator_learns_what_the_discriminator_scores_high():
    """Item 1 scores far above all others: its probability has to rise, for those who lack it."""
    sampler, encoded, pool = ready(irgan_cycle=[1, 80])
    with torch.no_grad():
        for table in encoded.tables:
            table.fill_(0.1)
        encoded.item_table[1] = 50
    start(sampler, 0, encoded, pool)
    user = torch.tensor([u for u in range(1, 31) if 1 not in pool.used[u]])
    before = torch.softmax(sampler.generator_scores(user), dim=1)[:, 1].mean()
    start(sampler, 1, encoded, pool)
    after = torch.softmax(sampler.generator_scores(user), dim=1)[:, 1].mean()
    assert after > 1.1 * before


def test_the_models_optimizer_leaves_the_generator_alone():
    sampler, encoded, pool = ready()
    start(sampler, 0, encoded, pool)
    assert not list(sampler.parameters())
    value, _ = part_losses(batch_of(pool), encoded, sampler, BPR(), pool)
    value.backward()
    for table in (sampler.generator_user, sampler.generator_item, sampler.generator_bias):
        assert table.grad is None


def test_a_copy_goes_on_with_the_generators_optimizer():
    results = []
    sampler, encoded, pool = ready(irgan_cycle=[1, 2])
    for epoch in range(2):
        start(sampler, epoch, encoded, pool)
    restored, *_ = ready(irgan_cycle=[1, 2])
    restored.load_state_dict(copy.deepcopy(sampler.state_dict()))
    part = Batch.of(torch.tensor(pool.used.user), torch.tensor(pool.used.item))
    for each in (sampler, restored):
        torch.manual_seed(9)
        start(each, 2, encoded, pool)
        results.append(each.propose(part, encoded, pool).items)
    assert torch.equal(*results)
    assert torch.equal(sampler.generator_item, restored.generator_item)


def test_one_negative_left():
    assert_draws_what_is_left(IRGAN())


@pytest.mark.parametrize("scale", [0.0, 40.0, 1e4])
def test_extreme_scores_stay_finite(scale):
    assert_finite_step(IRGAN(irgan_cycle=[1, 2]), BPR(), scale)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_an_extreme_generator_stays_finite(scale):
    sampler, encoded, pool = ready(irgan_cycle=[1, 2])
    for table in sampler.buffers():
        table.copy_(torch.randn_like(table) * scale)
    for epoch in range(3):
        start(sampler, epoch, encoded, pool)
    assert all(torch.isfinite(table).all() for table in sampler.buffers())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"irgan_temperature": 0}, "irgan_temperature=0: must be a number > 0"),
        ({"irgan_mix": 1}, "irgan_mix=1: must be a number >= 0 and < 1"),
        ({"irgan_cycle": [5]}, r"irgan_cycle=\[5\]: must be a list of 2, each an integer > 0"),
        ({"irgan_cycle": [5, 0]}, r"irgan_cycle=\[5, 0\]: must be a list of 2"),
        ({"candidate_num": 3}, "candidate_num=3: must be 1"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        IRGAN(**keys)
