"""IRGAN: the generator's draws by chi-square, its gradient by enumeration, and the cycle."""

import math

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared
from scipy import stats

from recbole_hns import run
from recbole_hns.errors import UserError
from recbole_hns.sampler.irgan import IRGAN, draw_rows, reinforce_loss


def ready(toy, **keys):
    """A trainer whose generator has an opinion."""
    _, train, _, trainer = prepared(sampler="irgan", embedding_size=3, **toy, **keys)
    trainer._evaluates = trainer._saved = False
    trainer._candidates = trainer._candidate_sampler(train)
    for table in (trainer.sampler.generator_user, trainer.sampler.generator_item):
        table.normal_(0, 0.3)
    return trainer, train


def refresh(trainer, epoch):
    trainer.sampler.start_epoch(epoch)
    with torch.no_grad():
        trainer.sampler.refresh(trainer.pairwise, trainer._candidates, 10**6)


def test_drawn_columns_have_their_weights():
    weight = torch.tensor([[0.0, 3, 0, 1, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 2]]).double()
    row = torch.tensor([0, 1, 2]).repeat_interleave(40_000)
    drawn = draw_rows(weight, row).view(3, -1)
    for each, expected in zip(drawn, weight):
        counts = torch.bincount(each, minlength=5).double()
        assert (counts[expected == 0] == 0).all()
        some = expected > 0
        shares = expected[some] / expected.sum() * 40_000
        assert ((counts[some] - shares) ** 2 / shares).sum() < 10.8  # 0.1% point, 1 degree


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_negatives_follow_the_policy_without_positives(temperature, toy):
    trainer, train = ready(toy, irgan_temperature=temperature)
    sampler, user = trainer.sampler, torch.tensor([3, 7])
    draws = []
    for _ in range(1500):
        draws.append(sampler.draw_negatives(user, trainer._candidates))
    draws = torch.stack(draws)
    used = [train._sampler.used_ids[u] for u in user.tolist()]
    assert draws.shape[1] == sum(map(len, used))
    for u, own, each in zip(user.tolist(), used, draws.split(list(map(len, used)), dim=1)):
        scores = (sampler.generator_user[u] @ sampler.generator_item.t()).tolist()
        scores = [s + b for s, b in zip(scores, sampler.generator_bias.tolist())]
        negatives = [j for j in range(1, len(scores)) if j not in own]
        powers = np.exp([scores[j] / temperature for j in negatives])
        counts = np.bincount(each.reshape(-1), minlength=len(scores))
        assert counts[negatives].sum() == each.numel()
        expected = powers / powers.sum() * each.numel()
        assert stats.chisquare(counts[negatives], expected).pvalue > 1e-3


def test_proposal_mixes_policy_and_positives(toy):
    trainer, train = ready(toy, irgan_mix=0.3)
    user = torch.tensor([2, 5])
    log_p = torch.log_softmax(trainer.sampler.generator_scores(user), dim=1)
    found = trainer.sampler.proposal(log_p.detach(), user, trainer._candidates)
    for u, p, row in zip(user.tolist(), log_p.exp(), found):
        own = train._sampler.used_ids[u]
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


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "ConvNCF"])
def test_every_pair_keeps_its_negative_for_a_cycle(model, toy):
    more = {"embedding_size": 64, "cnn_channels": [1, 2, 2, 2, 2]} if model == "ConvNCF" else {}
    _, train, _, trainer = prepared(model=model, sampler="irgan", irgan_cycle=[2, 1], **toy, **more)
    trainer._candidates = trainer._candidate_sampler(train)
    sampler = trainer.sampler
    negatives, generators = [], []
    for epoch in range(4):
        refresh(trainer, epoch)
        negatives.append(sampler.negatives.clone())
        generators.append(sampler.generator_item.detach().clone())
    assert torch.equal(negatives[0], negatives[1])
    assert not torch.equal(negatives[1], negatives[2])
    assert torch.equal(negatives[2], negatives[3])
    assert torch.equal(generators[0], generators[1])
    assert not torch.equal(generators[1], generators[2])

    inter = train._dataset.inter_feat
    user, pos_item = inter["user_id"], inter["item_id"]
    with torch.no_grad(), trainer.pairwise.step():
        chosen = sampler.choose(user[:50], pos_item[:50], trainer._candidates, trainer.pairwise)
    pairs = sorted({(u, i) for u in range(len(train._sampler.used_ids))
                    for i in train._sampler.used_ids[u]})  # fmt: skip
    for u, i, (j,) in zip(user[:50].tolist(), pos_item[:50].tolist(), chosen.items.tolist()):
        assert j == negatives[3][pairs.index((u, i))]
        assert j not in train._sampler.used_ids[u] | {0}


def test_the_generator_learns_what_the_discriminator_scores_high(toy):
    """Item 1 scores far above all others: its probability has to rise, for those who lack it."""
    trainer, _ = ready(toy, irgan_cycle=[1, 80])
    sampler = trainer.sampler
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(0.1)
        trainer.model.item_embedding.weight[1] = 50
    refresh(trainer, 0)
    user = torch.arange(1, 31)
    before = torch.softmax(sampler.generator_scores(user), dim=1)[:, 1].mean()
    refresh(trainer, 1)
    after = torch.softmax(sampler.generator_scores(user), dim=1)[:, 1].mean()
    assert after > 1.1 * before


def test_the_models_optimizer_leaves_the_generator_alone(toy):
    trainer, train = ready(toy, weight_decay=0.1)
    before = trainer.sampler.generator_user.detach().clone()
    trainer._train_epoch(train, 0)
    assert torch.equal(trainer.sampler.generator_user, before)
    assert not list(trainer.sampler.parameters())


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_scores_stay_finite(scale, toy):
    trainer, train = ready(toy, irgan_cycle=[1, 2])
    with torch.no_grad():
        for table in (*trainer.model.parameters(), *list(trainer.sampler.buffers())):
            table.copy_(torch.randn_like(table) * scale)
    for epoch in range(3):
        assert math.isfinite(trainer._train_epoch(train, epoch))
    assert all(torch.isfinite(table).all() for table in trainer.sampler.buffers())


def test_one_negative_left(write_dataset):
    pairs = [(0, i) for i in range(11)] + [(u, i) for u in range(1, 9) for i in range(u, u + 4)]
    keys = {**QUIET, **write_dataset([*pairs, (9, 11)]), "eval_args": {"split": {"RS": [8, 1, 1]}}}
    keys.update(epochs=3, topk=3, valid_metric="MRR@3", irgan_cycle=[1, 1])
    result = run(sampler="irgan", config_dict=keys)
    assert all(math.isfinite(value) for value in result["test_result"].values())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"irgan_temperature": 0}, "irgan_temperature=0: must be a number > 0"),
        ({"irgan_mix": 1}, "irgan_mix=1: must be a number >= 0 and < 1"),
        ({"irgan_cycle": [5]}, r"irgan_cycle=\[5\]: must be a list of 2, each an integer > 0"),
        ({"irgan_cycle": [5, 0]}, r"irgan_cycle=\[5, 0\]: must be a list of 2"),
        ({"candidate_num": 3}, "candidate_num=3: must be 1"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        IRGAN(**keys)
