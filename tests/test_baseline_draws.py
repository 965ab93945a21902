"""The distributions that the papers' baselines draw from, their checks and their reductions."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import prepared
from scipy.stats import chisquare

from recbole_hns.sampler import kernel as kernel_module
from recbole_hns.sampler.adasir import AdaSIR
from recbole_hns.sampler.aobpr import truncated_geometric
from recbole_hns.sampler.cuco import CuCo
from recbole_hns.sampler.dns import DNS
from recbole_hns.sampler.kernel import Kernel
from recbole_hns.sampler.pris import PRIS
from recbole_hns.sampler.softmax import Softmax
from recbole_hns.sampler.ssm import SSM
from recbole_hns.sampler.warp import WARP

USER = 7
DRAWS = 60_000


def ready(dim=3, scale=1.0, **keys):
    """A trainer at its first batch, with embeddings N(0, scale^2), and the negatives of USER."""
    _, train, _, trainer = prepared(embedding_size=dim, **keys)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(0, scale)
    trainer._candidates = trainer._candidate_sampler(train)
    trainer.sampler.start_epoch(0)
    used = trainer._candidates.used_ids[USER]
    negatives = [j for j in range(1, trainer._candidates.item_num) if j not in used]
    return trainer, negatives


def draw(trainer, num=DRAWS):
    """What ``num`` positives of USER draw, ``[num, N]``."""
    user = torch.full((num,), USER)
    with trainer.pairwise.step(), torch.no_grad():
        trainer.sampler.start_batch(user, user)
        return trainer.sampler.draw(trainer._candidates, user)


def scores_of(trainer, items):
    tables = trainer.model.user_embedding.weight, trainer.model.item_embedding.weight
    return (tables[1].detach()[items] @ tables[0].detach()[USER]).double().numpy()


def assert_drawn_by(probability, items, negatives):
    """Pearson's test of how often each negative was drawn, at 0.1%."""
    counts = np.bincount(np.asarray(items).ravel(), minlength=max(negatives) + 1)
    assert counts.sum() == counts[negatives].sum()
    probability = np.asarray(probability, dtype=np.float64)
    expected = counts.sum() * probability / probability.sum()
    rare = expected < 5
    found, expected = (
        np.append(x[~rare], x[rare].sum()) if rare.any() else x
        for x in (counts[negatives], expected)
    )
    found, expected = found[expected > 0], expected[expected > 0]
    assert len(found) == 1 or chisquare(found, expected).pvalue > 0.001


# AOBPR


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 2.0, 9.0, 1e3, 1e300])
def test_ranks_of_the_truncated_geometric(scale):
    n = 12
    rank = truncated_geometric(scale, n, (DRAWS,), torch.device("cpu")).numpy()
    assert 0 <= rank.min() <= rank.max() < n
    weight = np.exp(-np.arange(n) / scale)
    assert_drawn_by(weight, rank, list(range(n)))


@pytest.mark.parametrize("scale", [2.0, 15.0])
def test_aobpr_draws_by_factor_and_rank(scale, toy):
    trainer, negatives = ready(sampler="aobpr", aobpr_lambda=scale, **toy)
    with torch.no_grad():
        trainer.model.user_embedding.weight[USER] = torch.tensor([0.5, -1.0, 0.0])
    items = draw(trainer)
    table = trainer.model.item_embedding.weight.detach().double().numpy()[1:]
    user = trainer.model.user_embedding.weight.detach().double().numpy()[USER]
    n = len(table)
    factor = np.abs(user) * table.std(axis=0)
    by_rank = np.exp(-np.arange(n) / scale)
    probability = np.zeros(n + 1)
    for f, share in enumerate(factor / factor.sum()):
        order = sorted(range(n), key=lambda j: -table[j, f])
        for rank, weight in enumerate(by_rank / by_rank.sum()):
            probability[1 + order[rank if user[f] > 0 else n - 1 - rank]] += share * weight
    # what hits an item of the user's is drawn again
    assert_drawn_by(probability[negatives], items, negatives)


def test_aobpr_with_one_factor_ranks_by_score(toy):
    trainer, negatives = ready(dim=1, sampler="aobpr", aobpr_lambda=1e-9, **toy)
    items = draw(trainer, 100)
    best = int(np.argmax(scores_of(trainer, range(trainer.model.n_items))[1:])) + 1
    # rank 0 is the user's best item, which is drawn again until any negative is
    assert set(items.ravel().tolist()) == {best} if best in negatives else set(negatives)


def test_aobpr_ranks_anew_after_n_ln_n_draws(toy):
    trainer, _ = ready(sampler="aobpr", **toy)
    n = trainer._candidates.item_num - 1
    rankings = []
    for _ in range(2 * int(n * math.log(n)) // 50 + 3):
        with torch.no_grad():
            trainer.model.item_embedding.weight.normal_()
        draw(trainer, 50)
        rankings.append(trainer.sampler.get_extra_state()["ranking"])
    changes = [k for k in range(1, len(rankings)) if rankings[k] is not rankings[k - 1]]
    period = math.ceil(n * math.log(n) / 50)
    assert changes == [period, 2 * period][: len(changes)] != []


# WARP


def warp_on(violating, negatives, cap, num, **keys):
    """Index and weight for one of so many negatives violating the margin."""
    sampler = WARP(warp_max_trials=cap, **keys)
    sampler.setup(type("Model", (), {"n_items": 100}), 1)
    sampler._negative_num = torch.full((num, 1), negatives)
    violates = torch.rand(num, cap) < violating / negatives
    pos_scores = torch.full((num, 1), 0.5)
    # a score at the margin does not violate it
    index, weight = sampler.select(pos_scores, violates * 1.5 - 0.5)
    assert weight is None
    return sampler, index, violates


@pytest.mark.parametrize(("violating", "cap"), [(1, 9), (5, 9), (17, 30), (60, 4)])
def test_warp_trials(violating, cap):
    """Trials follow the loop's law; the weight is L(floor(N_- / T))."""
    negatives, num = 60, 20_000
    sampler, index, _ = warp_on(violating, negatives, cap, num)
    p = violating / negatives
    learnt = sampler._rank_loss.squeeze(1) > 0
    law = [p * (1 - p) ** t for t in range(cap)] + [(1 - p) ** cap]
    found = np.bincount(np.where(learnt, index.squeeze(1), cap), minlength=cap + 1)
    expected = num * np.array(law)
    kept = expected > 0
    assert found[~kept].sum() == 0
    if kept.sum() > 1:
        assert chisquare(found[kept], expected[kept]).pvalue > 0.001
    for t, weight in zip(index.squeeze(1).tolist()[:200], sampler._rank_loss.tolist()):
        rank = max(1, negatives // (t + 1))
        if weight[0]:
            assert weight[0] == pytest.approx(sum(1 / s for s in range(1, rank + 1)), rel=1e-6)


def test_warp_when_all_violate_and_when_none_does():
    sampler, index, _ = warp_on(60, 60, 9, 10, warp_normalize=True)
    assert index.tolist() == [[0]] * 10
    assert sampler._rank_loss.tolist() == [[1.0]] * 10
    sampler, _, _ = warp_on(0, 60, 9, 10)
    pos, neg = torch.zeros(10, 1, requires_grad=True), torch.zeros(10, 1, requires_grad=True)
    losses = sampler.loss(pos, neg, None)
    losses.sum().backward()
    assert not losses.any()
    assert not pos.grad.any()
    assert not neg.grad.any()


def test_warp_skips_a_positive_whose_score_is_no_number():
    sampler, _, _ = warp_on(60, 60, 9, 3)
    pos = torch.tensor([[math.nan], [-math.inf], [math.inf]])
    sampler.select(pos, torch.zeros(3, 9))
    assert sampler.loss(pos, torch.zeros(3, 1), None).tolist() == [0, 0, 0]


# PRIS


@pytest.mark.parametrize("alpha", [None, 0.75])
def test_pris_proposes_by_popularity(alpha, toy):
    keys = {"sampler": "pris", "candidate_distribution": "popularity", "candidate_alpha": alpha}
    trainer, negatives = ready(**toy, **keys)
    items = draw(trainer, DRAWS // 5)
    count = np.bincount(trainer._candidates.used_ids.item, minlength=trainer.model.n_items)
    mass = np.log1p(count) if alpha is None else count**alpha
    assert_drawn_by(mass[negatives], items, negatives)
    log_q = trainer.sampler._log_q.double().numpy()
    found = np.exp(log_q - log_q[:, :1])
    np.testing.assert_allclose(found, mass[items] / mass[items[:, :1]], rtol=1e-5)


def test_pris_u_is_softmax_and_weights_do_not_change_with_constants():
    pos, scores, log_q = torch.randn(9, 1), torch.randn(9, 5), torch.randn(9, 5)
    pris = PRIS()
    pris._log_q = None
    expected = Softmax(candidate_num=5, softmax_tau=1.0).select(pos, scores).weight
    assert torch.equal(pris.select(pos, scores).weight, expected)
    pris._log_q = log_q
    weight = pris.select(pos, scores).weight
    pris._log_q = log_q + torch.randn(9, 1)
    moved = pris.select(pos, scores + torch.randn(9, 1)).weight
    torch.testing.assert_close(weight, moved)
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(9))


def test_pris_p_approaches_the_full_softmax(toy):
    keys = {"sampler": "pris", "candidate_distribution": "popularity", "candidate_num": 40_000}
    trainer, negatives = ready(scale=0.7, **toy, **keys)
    items = draw(trainer, 1)
    scores = scores_of(trainer, range(trainer.model.n_items))
    losses = np.logaddexp(0, scores - 0.3)
    weight = trainer.sampler.select(None, torch.from_numpy(scores[items])).weight.numpy()
    power = np.exp(scores[negatives])
    expected = (power * losses[negatives]).sum() / power.sum()
    assert (weight * losses[items]).sum() == pytest.approx(expected, rel=0.02)


# AdaSIR


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_adasir_pools_approach_the_softmax(distribution, toy):
    sizes = {"adasir_pool_size": 1000, "adasir_sample_size": 100_000}
    keys = {"sampler": "adasir", "candidate_distribution": distribution, **sizes}
    trainer, negatives = ready(scale=0.7, **toy, **keys)
    draw(trainer, 1)
    sampler = trainer.sampler
    power = np.exp(scores_of(trainer, negatives))
    assert_drawn_by(power, sampler.pool[USER], negatives)
    assert bool(sampler.filled)


def test_adasir_pool_keeps_log_v_of_its_sample(toy):
    """Scores and log q of the A items that were drawn, by the specification."""
    keys = {"candidate_distribution": "popularity", "adasir_sample_size": 20}
    trainer, _ = ready(sampler="adasir", adasir_pool_size=9, **toy, **keys)
    candidates, drawn = trainer._candidates, []
    original = candidates.draw
    candidates.draw = lambda *args: drawn.append(original(*args)) or drawn[-1]
    draw(trainer, 1)
    count = np.bincount(candidates.used_ids.item, minlength=trainer.model.n_items)
    sample = drawn[0][USER].tolist()
    scores = scores_of(trainer, sample)
    exponent = [math.exp(r - math.log(math.log(1 + count[j]))) for r, j in zip(scores, sample)]
    log_v = {j: math.log(x / sum(exponent)) for j, x in zip(sample, exponent)}
    sampler = trainer.sampler
    for j, found in zip(sampler.pool[USER].tolist(), sampler.pool_log_v[USER].tolist()):
        assert found == pytest.approx(log_v[j], rel=1e-5)


def test_adasir_pool_halves_with_each_refresh_and_items_keep_their_v(toy):
    trainer, _ = ready(sampler="adasir", **toy)
    sampler = trainer.sampler
    draw(trainer, 1)
    # marks the old: no item is 0, no logarithm positive
    sampler.pool.zero_()
    sampler.pool_log_v.fill_(5)
    for epoch in range(1, 4):
        sampler.start_epoch(epoch)
        draw(trainer, 1)
        old = sampler.pool == 0
        assert torch.equal(old, sampler.pool_log_v == 5)
        share, num = 0.5**epoch, old.numel()
        assert abs(old.sum() - share * num) < 5 * math.sqrt(num * share * (1 - share) * epoch)


def test_adasir_refreshes_every_so_many_epochs(toy):
    trainer, _ = ready(sampler="adasir", adasir_refresh=3, **toy)
    pools = []
    for epoch in range(5):
        trainer.sampler.start_epoch(epoch)
        draw(trainer, 1)
        pools.append(trainer.sampler.pool.clone())
    same = [torch.equal(a, b) for a, b in itertools.pairwise(pools)]
    assert same == [True, True, False, True]


def test_adasir_draws_the_pools_places_alike(toy):
    trainer, _ = ready(sampler="adasir", adasir_pool_size=20, **toy)
    trainer.sampler.filled.fill_(True)
    trainer.sampler._due = False
    trainer.sampler.pool[USER] = torch.arange(20)
    assert_drawn_by(np.ones(20), draw(trainer, DRAWS // 5), list(range(20)))


@pytest.mark.parametrize(("correction", "sign"), [("program", 1), ("none", 0), ("inverse", -1)])
def test_adasir_correction(correction, sign):
    sampler = AdaSIR(adasir_correction=correction)
    scores, log_v = torch.randn(4, 5), -torch.rand(4, 5)
    sampler._log_q = {"program": -log_v, "none": None, "inverse": log_v}[correction]
    expected = torch.softmax(scores + sign * log_v, dim=1)
    torch.testing.assert_close(sampler.select(None, scores).weight, expected)


# kernel


def kernel_trainer(path, toy, monkeypatch, **keys):
    if path == "pool":
        monkeypatch.setattr(kernel_module, "POOL_SIZE", DRAWS // 3)
        keys["kernel_refresh"] = "epoch"
    elif path == "rejection":
        monkeypatch.setattr(kernel_module, "MOST_SCORED_CPU", 0)
    return ready(sampler="kernel", **toy, **keys)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("path", ["scoring", "rejection", "pool"])
def test_kernel_draws(path, alpha, toy, monkeypatch):
    trainer, negatives = kernel_trainer(path, toy, monkeypatch, kernel_alpha=alpha)
    items = draw(trainer, 1 if path == "pool" else DRAWS // 5)
    if path == "pool":  # all that a positive's draws come from
        items = trainer.sampler.pool[USER]
        log_k = trainer.sampler.pool_log_k[USER]
    else:
        log_k = trainer.sampler._log_k
    k = alpha * scores_of(trainer, negatives) ** 2 + 1
    assert_drawn_by(k, items, negatives)
    expected = np.log(alpha * scores_of(trainer, items) ** 2 + 1)
    np.testing.assert_allclose(log_k.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", ["scoring", "rejection", "pool"])
def test_kernel_of_embeddings_of_zero_is_uniform(path, toy, monkeypatch):
    trainer, negatives = kernel_trainer(path, toy, monkeypatch)
    with torch.no_grad():
        trainer.model.user_embedding.weight.zero_()
        trainer.model.item_embedding.weight.zero_()
    items = draw(trainer, 1 if path == "pool" else DRAWS // 5)
    items = trainer.sampler.pool[USER] if path == "pool" else items
    assert_drawn_by(np.ones(len(negatives)), items, negatives)


def test_kernel_draws_uniformly_where_all_proposals_are_rejected(toy, monkeypatch):
    trainer, negatives = kernel_trainer("rejection", toy, monkeypatch)
    with torch.no_grad():  # only the user's own items have a length
        trainer.model.item_embedding.weight.zero_()
        own = list(trainer._candidates.used_ids[USER])
        trainer.model.item_embedding.weight[own] = 1e9
        trainer.model.user_embedding.weight.fill_(1e9)
    assert_drawn_by(np.ones(len(negatives)), draw(trainer, 2000), negatives)


def test_kernel_sum_over_all_items():
    user_e, table = torch.randn(4, 3).double(), torch.randn(9, 3).double()
    expected = (2.5 * (user_e @ table.t()).square() + 1).sum(dim=1)
    found = kernel_module.kernel_sum(user_e, table.t() @ table, 2.5, 9)
    torch.testing.assert_close(found, expected)


def test_kernel_weights():
    scores = torch.randn(6, 5, dtype=torch.float64)
    sampler = Kernel(kernel_alpha=2.0)
    sampler._log_k = (2 * scores.square() + 1).log()
    weight = torch.exp(scores) / (2 * scores.square() + 1)
    expected = weight / weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(sampler.select(None, scores).weight, expected)


# CuCo and SSM


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 32), (1, 31), (50, 16), (75, 8), (93, 2), (94, 1), (99, 1), (500, 1)],
)
def test_cuco_schedule_of_the_specification(epoch, expected):
    sampler = CuCo()
    sampler.start_epoch(epoch)
    assert sampler.candidates_now == expected


def test_cuco_schedule_is_that_of_whole_numbers():
    for num in (4, 7, 8, 16, 32, 64, 99):
        for total in (3, 10, 100):
            down = CuCo(candidate_num=num, cuco_epochs=total)
            up = CuCo(candidate_num=num, cuco_epochs=total, cuco_direction="easy_to_hard")
            for epoch in range(total + 3):
                down.start_epoch(epoch)
                up.start_epoch(epoch)
                assert down.candidates_now == max(1, num * max(total - epoch, 0) // total)
                assert up.candidates_now == max(1, num * min(epoch + 1, total) // total)


def test_cuco_power():
    sampler = CuCo(candidate_num=64, cuco_epochs=4, cuco_power=2.0)
    found = []
    for epoch in range(5):
        sampler.start_epoch(epoch)
        found.append(sampler.candidates_now)
    assert found == [64, 36, 16, 4, 1]


@pytest.mark.parametrize(("epoch", "name"), [(0, "dns"), (9, "rns")])
def test_cuco_starts_as_dns_and_ends_as_rns(epoch, name, toy):
    results = []
    for keys in ({"sampler": "cuco", "candidate_num": 8, "cuco_epochs": 10}, {"sampler": name}):
        if name == "dns" and keys["sampler"] == "dns":
            keys = {**keys, "candidate_num": 8}
        torch.manual_seed(3)
        trainer, _ = ready(**toy, **keys)
        trainer.sampler.start_epoch(epoch)
        user = torch.arange(1, 20)
        torch.manual_seed(4)
        loss, sums = trainer._batch_losses(user, user)
        results.append((loss, sums))
    torch.testing.assert_close(*results)
    assert isinstance(CuCo(), DNS)


def test_ssm_with_one_negative_and_tau_1_is_bpr(toy):
    results = []
    for keys in ({"sampler": "ssm", "candidate_num": 1}, {"sampler": "rns"}):
        torch.manual_seed(3)
        trainer, _ = ready(**toy, **keys)
        user = torch.arange(1, 20)
        torch.manual_seed(4)
        results.append(trainer._batch_losses(user, user))
    torch.testing.assert_close(*results)


def test_ssm_example_of_the_specification():
    loss = SSM().loss(torch.tensor([[1.0]]).double(), torch.tensor([[0.0, 1.0]]).double(), None)
    assert loss.item() == pytest.approx(0.8619948, abs=5e-8)


@pytest.mark.parametrize("negatives", ["uniform", "in_batch"])
@pytest.mark.parametrize("tau", [1e-3, 1.0])
def test_ssm_neither_overflows_nor_loses_small_differences(negatives, tau):
    sampler = SSM(ssm_tau=tau, ssm_negatives=negatives)
    pos = torch.tensor([[1e4], [-1e4], [1.0]])
    scores = torch.tensor([[1e4, -1e4], [1e4, -1e4], [1.0 - 1e-3, 1.0]])
    assert torch.isfinite(sampler.loss(pos, scores, None)).all()


def test_ssm_shares_by_popularity(toy):
    keys = {"ssm_negatives": "popularity", "candidate_num": DRAWS, "candidate_alpha": 1.5}
    trainer, _ = ready(sampler="ssm", **toy, **keys)
    items = draw(trainer, 20)
    assert items.shape == (1, DRAWS)
    assert draw(trainer, 20) is not items
    count = np.bincount(trainer._candidates.used_ids.item, minlength=trainer.model.n_items)
    every = list(range(1, trainer.model.n_items))
    # training positives are not left out
    assert_drawn_by(count[every] ** 1.5, items, every)


def test_ssm_in_batch_takes_the_batchs_positives(toy):
    trainer, _ = ready(sampler="ssm", ssm_negatives="in_batch", **toy)
    user, pos_item = torch.tensor([1, 2, 3]), torch.tensor([5, 6, 5])
    trainer.sampler.start_batch(user, pos_item)
    # also for a part of the batch
    assert trainer.sampler.draw(trainer._candidates, user[:2]).tolist() == [[5, 6, 5]]
    assert trainer.sampler.scored_num(100) == 3
