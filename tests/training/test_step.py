"""The gradient of one training step against the papers' algorithms, written out literally."""

import math

import numpy as np
import pytest
import torch
from conftest import first_batch, prepared, step

from recbole_hns.batch import Batch, Selection
from recbole_hns.loss import Loss
from recbole_hns.sampler import HardNegativeSampler


def literal_negatives(sampler, pos, row):
    """Chosen positions and weights for one positive, by the papers' formulas."""
    if sampler.name in ("rns", "pns"):
        return [(0, 1.0)]
    if sampler.name == "dns":
        return [(max(range(len(row)), key=lambda j: row[j]), 1.0)]
    if sampler.name == "dns_mn":
        order = sorted(range(len(row)), key=lambda j: -row[j])
        return [(j, 1 / sampler.dns_m) for j in order[: sampler.dns_m]]
    if sampler.name == "ahns":
        target = sampler.ahns_beta * max(pos + sampler.ahns_alpha, 1e-6) ** (sampler.ahns_p + 1)
        return [(min(range(len(row)), key=lambda j: abs(row[j] - target)), 1.0)]
    if sampler.name == "softmax":
        powers = [math.exp(r / sampler.softmax_tau) for r in row]
    else:
        losses = [math.log1p(math.exp(r - pos)) for r in row]
        tau = math.sqrt(np.var(losses) / (2 * sampler.softmax_rho))
        powers = [math.exp(x / tau) for x in losses]
    return [(j, p / sum(powers)) for j, p in enumerate(powers)]


def literal_loss(trainer, user, pos_item, items, propagate, l2):
    """Mean over the batch of sum_j w_j (L_j + L2 of the triple), pair by pair."""
    user_table, item_table = propagate()
    total = 0
    for u, i, row in zip(user.tolist(), pos_item.tolist(), items.tolist(), strict=True):
        pos = user_table[u] @ item_table[i]
        scores = [user_table[u] @ item_table[j] for j in row]
        picks = literal_negatives(trainer.sampler, pos.item(), [s.item() for s in scores])
        for j, weight in picks:
            pair = -torch.log(torch.sigmoid(pos - scores[j]))
            total = total + weight * (pair + l2(u, i, row[j]))
    return total / len(user)


@pytest.fixture
def float64():
    """RecBole's EmbLoss adds up in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SAMPLERS = [
    {"sampler": "rns"},
    {"sampler": "pns"},
    {"sampler": "dns", "candidate_num": 5},
    {"sampler": "dns_mn", "candidate_num": 9, "dns_m": 3},
    {"sampler": "dns_mn", "candidate_num": 60, "dns_m": 50},
    {"sampler": "softmax", "candidate_num": 7, "softmax_tau": 0.5},
    {"sampler": "softmax_v", "candidate_num": 7, "softmax_rho": 0.7},
    {"sampler": "softmax_v", "candidate_num": 60, "softmax_rho": 3.0},
    {"sampler": "ahns", "candidate_num": 6, "ahns_alpha": 0.5, "ahns_p": -2.0},
]


@pytest.mark.parametrize("keys", SAMPLERS, ids=lambda keys: "-".join(map(str, keys.values())))
@pytest.mark.parametrize(
    ("model", "n_layers"), [("BPR", None), ("LightGCN", 0), ("LightGCN", 2)], ids=str
)
def test_gradient_of_a_step(model, n_layers, keys, toy, float64):
    more = {"n_layers": n_layers, "reg_weight": 0.1, "require_pow": True}
    config, train, _, trainer = prepared(model=model, embedding_size=5, **toy, **keys, **more)
    network = trainer.model.double()
    with torch.no_grad():  # scores that are no rounding errors
        for parameter in network.parameters():
            parameter.normal_(0, 0.7)
    if model == "LightGCN":
        network.norm_adj_matrix = network.norm_adj_matrix.double()
    batch = first_batch(trainer, train, 40)

    user, pos_item = batch.user, batch.pos_item
    torch.manual_seed(3)
    items = trainer.pool.draw(user, trainer.sampler.candidate_num)
    torch.manual_seed(3)
    losses, _ = step(trainer, batch)
    losses.sum().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()

    ego_user, ego_item = network.user_embedding.weight, network.item_embedding.weight
    if model == "BPR":
        expected = literal_loss(
            trainer, user, pos_item, items, lambda: (ego_user, ego_item), lambda u, i, j: 0
        )
    else:
        dense = network.norm_adj_matrix.to_dense()

        def propagate():
            layers = [torch.cat([ego_user, ego_item])]
            for _ in range(n_layers):
                layers.append(dense @ layers[-1])
            return (sum(layers) / (n_layers + 1)).split([len(ego_user), len(ego_item)])

        def l2(u, i, j):
            rows = (ego_user[u], ego_item[i], ego_item[j])
            return config["reg_weight"] / 2 * sum((row**2).sum() for row in rows)

        expected = literal_loss(trainer, user, pos_item, items, propagate, l2)
    expected.backward()
    assert losses.item() == pytest.approx(expected.item(), rel=1e-9)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["dns", "dns_mn", "softmax", "softmax_v", "ahns"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "ConvNCF"])
def test_all_negatives_are_scored_and_no_positive_is_learned_as_one(model, name, toy):
    keys = {"sampler": name, "candidate_num": "all", "train_batch_size": 64}
    if model == "ConvNCF":
        keys.update(embedding_size=64, cnn_channels=[1, 2, 2, 2, 2])
    _, train, _, trainer = prepared(model=model, **toy, **keys)
    seen = []
    select = trainer.sampler.select

    def watched(scores, candidates, part):
        seen.append(scores.neg)
        return select(scores, candidates, part)

    trainer.sampler.select = watched
    batch = first_batch(trainer, train)
    loss, _ = step(trainer, batch)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(p.grad).all() for p in trainer.model.parameters())
    for row, u in zip(seen[0].tolist(), batch.user.tolist(), strict=True):
        none = {i for i, score in enumerate(row) if score == -math.inf}
        assert none == {0} | train._sampler.used_ids[u]


def test_all_negatives_without_a_choice_are_weighted_alike(toy):
    class Every(HardNegativeSampler):
        def select(self, scores, candidates, part):
            return Selection()

    _, train, _, trainer = prepared(**toy, sampler="rns")
    trainer.sampler = Every(candidate_num="all")
    batch = first_batch(trainer, train, 10)
    found, _ = step(trainer, batch)
    scores = trainer.model.user_embedding(batch.user) @ trainer.model.item_embedding.weight.t()
    expected = 0
    for u, i, row in zip(batch.user.tolist(), batch.pos_item.tolist(), scores, strict=True):
        negatives = [j for j in range(1, len(row)) if j not in train._sampler.used_ids[u]]
        pairs = [-torch.log(torch.sigmoid(row[i] - row[j])) for j in negatives]
        expected += sum(pairs) / len(pairs) / batch.size
    torch.testing.assert_close(found, expected)


def test_what_is_no_negative_has_no_part_even_if_chosen(toy):
    class Last(HardNegativeSampler):
        def select(self, scores, candidates, part):
            return Selection(scores.neg.argsort(dim=1)[:, [0, -1]])

    _, train, _, trainer = prepared(**toy, sampler="rns")
    trainer.sampler = Last(candidate_num="all")
    batch = first_batch(trainer, train, 10)
    found, _ = step(trainer, batch)
    scores = trainer.model.user_embedding(batch.user) @ trainer.model.item_embedding.weight.t()
    pos_scores = scores.gather(1, batch.pos_item.unsqueeze(1))
    hardest = trainer.pool.exclude(batch.user, scores.clone()).amax(dim=1, keepdim=True)
    torch.testing.assert_close(found, -torch.log(torch.sigmoid(pos_scores - hardest)).mean())


def test_hardness_is_the_ratio_of_sums(toy):
    _, train, _, trainer = prepared(**toy, sampler="dns", candidate_num=3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(0.5)
    trainer.pool = trainer._pool_of(train)
    _, sums = step(trainer, Batch.of(torch.tensor([1, 2]), torch.tensor([3, 4])))
    assert sums.tolist() == pytest.approx([2 * 16.0, 2 * 16.0])


class Scaled(Loss):
    """BPR's loss of weighted negatives, with a scale that is learned."""

    def setup(self, model, epochs):
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def row_losses(self, scores, negatives, part):
        pairs = torch.nn.functional.softplus(scores.neg * self.scale - scores.pos)
        return torch.where(negatives.weight == 0, 0, pairs * negatives.weight).sum(dim=1)


@pytest.mark.parametrize("sampler", ["dns", "dns_mn", "softmax_v", "ahns", "scaled"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN-0", "LightGCN", "NGCF", "SGL", "ConvNCF"])
def test_learned_in_parts_it_is_the_same_loss_and_gradient(model, sampler, toy, monkeypatch):
    more = {
        "LightGCN-0": {"n_layers": 0, "require_pow": True},
        "NGCF": {"message_dropout": 0.0},
        "ConvNCF": {"embedding_size": 64, "cnn_channels": [1, 2, 2, 2, 2], "dropout_prob": 0.0},
    }.get(model, {})
    if sampler == "scaled":
        more = {**more, "loss": Scaled}
        sampler = "softmax"
    keys = {"sampler": sampler, "candidate_num": "all", "reg_weight": 0.2}
    _, train, _, trainer = prepared(model=model.split("-")[0], **toy, **keys, **more)
    trainer.model.train()
    batch = first_batch(trainer, train, 23)
    learned = [*trainer.model.parameters(), *trainer.loss.parameters()]
    results = []
    # bytes for a pair that make parts of all positives, and of 4 at most
    for pair_bytes in (64, 512 * 2**20 // (3 * trainer.pool.item_num)):
        monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", pair_bytes)
        torch.manual_seed(5)
        for parameter in learned:
            parameter.grad = None
        loss, sums = step(trainer, batch)
        loss.sum().backward()
        results.append((loss.detach(), sums, *(p.grad.clone() for p in learned)))
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ahns", "softmax_v"])
def test_a_step_leaves_no_gradient_to_the_next(sampler, toy):
    keys = {"sampler": sampler, "candidate_num": 2}
    _, train, _, trainer = prepared(model="BPR", **toy, **keys)
    # one row is few enough for its gradient alone to be cleared
    user, pos_item, *_ = first_batch(trainer, train, 1)

    def gradient(users, positives):
        trainer.optimizer.zero_grad()
        torch.manual_seed(4)
        loss, _ = step(trainer, Batch.of(users, positives))
        loss.backward()
        return [parameter.grad.clone() for parameter in trainer.model.parameters()]

    fresh = gradient(user, pos_item)
    gradient(user % 29 + 1, pos_item)
    for a, b in zip(gradient(user, pos_item), fresh, strict=True):
        assert torch.equal(a, b)
