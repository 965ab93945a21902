"""The gradient of one training step against the papers' algorithms, written out literally."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import prepared
from recbole.model.general_recommender import BPR, LightGCN

from recbole_hns.config import Config
from recbole_hns.data import create_dataset, data_preparation
from recbole_hns.model import InnerProductModel, PredictedModel, pairwise_model
from recbole_hns.model.graph import Adjacency
from recbole_hns.model.scores import list_scores
from recbole_hns.sampler import HardNegativeSampler, Negatives


def first_batch(trainer, train, size=None):
    """Users and positives of the first batch, the trainer being ready as ``fit`` makes it."""
    trainer._candidates = trainer._candidate_sampler(train)
    return tuple(ids[:size] for ids in next(iter(trainer._batches(train))))


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
    user, pos_item = first_batch(trainer, train, 40)

    torch.manual_seed(3)
    items = trainer.sampler.draw(trainer._candidates, user)
    torch.manual_seed(3)
    losses, _ = trainer._batch_losses(user, pos_item)
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


def test_l2_without_require_pow_is_the_norm_of_all_weighted_negatives(toy):
    keys = {"sampler": "dns_mn", "candidate_num": 6, "dns_m": 3, "reg_weight": 0.3}
    _, train, _, trainer = prepared(model="LightGCN", n_layers=0, **toy, **keys)
    model = trainer.model
    user, pos_item = first_batch(trainer, train, 20)
    items = trainer.sampler.draw(trainer._candidates, user)[:, :3]

    def row_loss(pos_scores, scores, weight):
        return torch.zeros(len(pos_scores))

    with trainer.pairwise.step():
        trainer.pairwise.scores(user, pos_item, items, trainer._candidates)
        found = trainer.pairwise.loss(user, pos_item, items, None, row_loss)
    negatives = model.item_embedding.weight[items] / math.sqrt(3)
    parts = (model.user_embedding(user), model.item_embedding(pos_item), negatives)
    expected = 0.3 * sum(part.norm() for part in parts) / len(user)
    torch.testing.assert_close(found.squeeze(), expected)


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF", "SGL", "NCL"])
def test_with_one_random_negative_the_loss_is_recboles(model, toy):
    keys = {"NGCF": {"message_dropout": 0.0}, "NCL": {"num_clusters": 3}}.get(model, {})
    _, train, _, trainer = prepared(model=model, sampler="rns", **toy, **keys)
    trainer._candidates = trainer._candidate_sampler(train)
    trainer.model.train()
    if model == "NCL":
        trainer.model.e_step()
    user, pos_item = next(iter(trainer._batches(train)))
    torch.manual_seed(5)
    neg_item = trainer.sampler.draw(trainer._candidates, user).squeeze(1)
    torch.manual_seed(5)
    found, _ = trainer._batch_losses(user, pos_item)
    batch = trainer.pairwise._interaction(user, pos_item, neg_item)
    expected = trainer.model.calculate_loss(batch)
    # RecBole's BPRLoss adds 1e-10 inside the logarithm
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_any_model_with_bpr_loss_gets_the_same_loss_by_predict(toy):
    """A model this package does not know is scored pair by pair; BPR serves as one."""
    keys = {"sampler": "softmax_v", "candidate_num": 8}
    _, train, _, trainer = prepared(model="BPR", **toy, **keys)
    user, pos_item = first_batch(trainer, train, 50)
    results = []
    for pairwise in (trainer.pairwise, PredictedModel(trainer.model)):
        trainer.pairwise = pairwise
        torch.manual_seed(5)
        trainer.model.zero_grad()
        loss, sums = trainer._batch_losses(user, pos_item)
        loss.backward()
        grads = [p.grad.clone() for p in trainer.model.parameters()]
        results.append((loss.detach(), sums, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["dns", "dns_mn", "softmax", "softmax_v", "ahns"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "ConvNCF"])
def test_all_negatives_are_scored_and_no_positive_is_learnt_as_one(model, name, toy):
    keys = {"sampler": name, "candidate_num": "all", "train_batch_size": 64}
    if model == "ConvNCF":
        keys.update(embedding_size=64, cnn_channels=[1, 2, 2, 2, 2])
    _, train, _, trainer = prepared(model=model, **toy, **keys)
    seen = []
    select = trainer.sampler.select

    def watched(pos_scores, scores):
        seen.append(scores)
        return select(pos_scores, scores)

    trainer.sampler.select = watched
    user, pos_item = first_batch(trainer, train)
    loss, _ = trainer._batch_losses(user, pos_item)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(p.grad).all() for p in trainer.model.parameters())
    for row, u in zip(seen[0].tolist(), user.tolist(), strict=True):
        none = {i for i, score in enumerate(row) if score == -math.inf}
        assert none == {0} | train._sampler.used_ids[u]


def test_all_negatives_without_a_choice_are_weighted_alike(toy):
    class Every(HardNegativeSampler):
        def select(self, pos_scores, scores):
            return Negatives(index=None)

    _, train, _, trainer = prepared(**toy, sampler="rns")
    trainer.sampler = Every(candidate_num="all")
    user, pos_item = first_batch(trainer, train, 10)
    found, _ = trainer._batch_losses(user, pos_item)
    scores = trainer.model.user_embedding(user) @ trainer.model.item_embedding.weight.t()
    expected = 0
    for u, i, row in zip(user.tolist(), pos_item.tolist(), scores, strict=True):
        negatives = [j for j in range(1, len(row)) if j not in train._sampler.used_ids[u]]
        pairs = [-torch.log(torch.sigmoid(row[i] - row[j])) for j in negatives]
        expected += sum(pairs) / len(pairs) / len(user)
    torch.testing.assert_close(found, expected)


def test_what_is_no_negative_has_no_part_even_if_chosen(toy):
    class Last(HardNegativeSampler):
        def select(self, pos_scores, scores):
            return Negatives(scores.argsort(dim=1)[:, [0, -1]])

    _, train, _, trainer = prepared(**toy, sampler="rns")
    trainer.sampler = Last(candidate_num="all")
    user, pos_item = first_batch(trainer, train, 10)
    found, _ = trainer._batch_losses(user, pos_item)
    scores = trainer.model.user_embedding(user) @ trainer.model.item_embedding.weight.t()
    pos_scores = scores.gather(1, pos_item.unsqueeze(1))
    hardest = trainer._candidates.exclude(user, scores.clone()).amax(dim=1, keepdim=True)
    torch.testing.assert_close(found, -torch.log(torch.sigmoid(pos_scores - hardest)).mean())


def test_convncf_in_parts_has_the_same_gradient(toy, monkeypatch):
    keys = {"sampler": "softmax_v", "candidate_num": 6, "embedding_size": 64, "dropout_prob": 0.0}
    more = {"cnn_channels": [1, 2, 2, 2, 2], "train_batch_size": 32}
    _, train, _, trainer = prepared(model="ConvNCF", **toy, **keys, **more)
    # one gradient is 0, and in single precision rounding alone
    trainer.model.double().train()
    user, pos_item = first_batch(trainer, train)
    results = []
    for pairs in (4096, 50):
        monkeypatch.setattr("recbole_hns.model.predicted.PREDICT_PAIRS", pairs)
        torch.manual_seed(5)
        trainer.model.zero_grad()
        loss, _ = trainer._batch_losses(user, pos_item)
        loss.backward()
        results.append((loss.detach(), *(p.grad.clone() for p in trainer.model.parameters())))
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


def test_a_subclass_that_scores_otherwise_is_scored_by_its_predict(toy):
    class Scaled(BPR):
        def predict(self, interaction):
            return 2 * super().predict(interaction)

    class Alike(LightGCN):
        pass

    for model, view in ((Scaled, PredictedModel), (Alike, InnerProductModel)):
        config = Config(model, config_dict={**toy, "embedding_size": 8, "n_layers": 1})
        train = data_preparation(config, create_dataset(config))[0]
        assert type(pairwise_model(model(config, train._dataset))) is view


def test_propagation_happens_once_a_step(toy):
    _, train, _, trainer = prepared(model="LightGCN", **toy, sampler="dns_mn", dns_m=5)
    trainer._candidates = trainer._candidate_sampler(train)
    forward, calls = type(trainer.model).forward, []
    counted = type("Counted", (type(trainer.model),), {})
    counted.forward = lambda self: calls.append(1) or forward(self)
    trainer.model.__class__ = counted
    user, pos_item = next(iter(trainer._batches(train)))
    trainer._batch_losses(user, pos_item)
    assert len(calls) == 1


def test_batches_are_recboles(toy):
    """Same seed, same interactions in the same order as RecBole's loader, epoch after epoch."""
    _, ours, _, trainer = prepared(**toy, sampler="rns", train_batch_size=50)
    _, theirs, _, _ = prepared(**toy, sampler="rns", train_batch_size=50)
    for _ in range(3):
        found = [torch.stack(batch) for batch in trainer._batches(ours)]
        expected = [torch.stack([b["user_id"], b["item_id"]]) for b in theirs]
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num", "item_num"), [(20, 11), (1, 80), (20, 80), (70, 80)])
def test_list_scores_and_its_gradients(num, item_num, dtype, threads):
    user_e = torch.randn(7, 3, dtype=dtype, requires_grad=True)
    table = torch.randn(item_num, 3, dtype=dtype, requires_grad=True)
    items = torch.randint(0, 11, (7, num))  # with repeats
    weight = torch.randn(7, num, dtype=dtype)
    found = list_scores(user_e, table, items)
    expected = (user_e.unsqueeze(1) * table[items]).sum(dim=2)
    torch.testing.assert_close(found, expected)
    inputs = (user_e, table)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_sampler_may_have_another_loss(toy):
    """Room for what is no weighted BPR loss: here a hinge, with pairs of weight 0."""

    class Hinge(HardNegativeSampler):
        candidate_num: int = 4

        def select(self, pos_scores, scores):
            return Negatives(index=None, weight=(scores > pos_scores).to(scores.dtype))

        def loss(self, pos_scores, scores, weight):
            return (weight * (1 - pos_scores + scores).clamp(min=0)).sum(dim=1)

    _, train, _, trainer = prepared(**toy, sampler="rns")
    trainer.sampler = Hinge()
    user, pos_item = first_batch(trainer, train)
    loss, _ = trainer._batch_losses(user, pos_item)
    loss.backward()
    assert loss > 0


def test_hardness_is_the_ratio_of_sums(toy):
    _, train, _, trainer = prepared(**toy, sampler="dns", candidate_num=3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(0.5)
    trainer._candidates = trainer._candidate_sampler(train)
    _, sums = trainer._batch_losses(torch.tensor([1, 2]), torch.tensor([3, 4]))
    assert sums.tolist() == pytest.approx([2 * 16.0, 2 * 16.0])


@pytest.mark.parametrize("symmetric", [True, False])
def test_adjacency_products_and_their_gradients(symmetric):
    dense = torch.rand(9, 9, dtype=torch.float64) * (torch.rand(9, 9) < 0.3)
    dense[4] = dense[:, 4] = 0  # a node without edges
    dense = dense + dense.t() if symmetric else dense
    adjacency = Adjacency(dense.to_sparse_coo())
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 3, dtype=torch.float64)
    found, expected = torch.sparse.mm(adjacency, x), dense @ x
    torch.testing.assert_close(found, expected)
    (a,) = torch.autograd.grad((found * weight).sum(), x)
    (b,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(a, b)
    assert (adjacency.rows is adjacency.transposed_rows) == symmetric
    assert adjacency._nnz() == adjacency.matrix._nnz()
    assert torch.equal(torch.sparse.sum(adjacency), adjacency.matrix.sum())


@pytest.mark.parametrize("model", ["LightGCN", "NGCF", "DGCF", "SGL", "NCL", "SpectralCF"])
def test_propagation_and_gradient_are_recboles(model, toy):
    keys = {"NGCF": {"message_dropout": 0.0}, "NCL": {"num_clusters": 3}}.get(model, {})
    _, _, _, trainer = prepared(model=model, sampler="rns", **toy, **keys)
    network = trainer.model
    graph = (network.train_graph,) if model == "SGL" else ()
    results = []
    for inside in (True, False):
        network.zero_grad()
        with trainer.pairwise.step() if inside else nullcontext():
            graph_now = (network.train_graph,) if model == "SGL" else ()
            user_table, item_table = network.forward(*graph_now)[:2]
            (user_table.square().sum() + item_table.sin().sum()).backward()
        results.append([user_table, item_table, *(p.grad for p in network.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not graph or network.train_graph is graph[0]


class Scaled(HardNegativeSampler):
    """Softmax over all negatives, with a learnt scale in the loss."""

    candidate_num: int | str = "all"

    def setup(self, model, epochs):
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def select(self, pos_scores, scores):
        return Negatives(index=None, weight=scores.softmax(dim=1))

    def loss(self, pos_scores, scores, weight):
        return super().loss(pos_scores, scores * self.scale, weight)


@pytest.mark.parametrize("sampler", ["dns", "dns_mn", "softmax_v", "ahns", "scaled"])
@pytest.mark.parametrize("model", ["BPR", "LightGCN-0", "LightGCN", "NGCF", "SGL", "ConvNCF"])
def test_learnt_in_parts_it_is_the_same_loss_and_gradient(model, sampler, toy, monkeypatch):
    more = {
        "LightGCN-0": {"n_layers": 0, "require_pow": True},
        "NGCF": {"message_dropout": 0.0},
        "ConvNCF": {"embedding_size": 64, "cnn_channels": [1, 2, 2, 2, 2], "dropout_prob": 0.0},
    }.get(model, {})
    name = Scaled if sampler == "scaled" else sampler
    keys = {"sampler": name, "candidate_num": "all", "reg_weight": 0.2}
    _, train, _, trainer = prepared(model=model.split("-")[0], **toy, **keys, **more)
    trainer.model.train()
    user, pos_item = first_batch(trainer, train, 23)
    learnt = [*trainer.model.parameters(), *trainer.sampler.parameters()]
    results = []
    # bytes for a pair that make parts of all positives, and of 4 at most
    for pair_bytes in (64, 512 * 2**20 // (3 * trainer._candidates.item_num)):
        monkeypatch.setattr("recbole_hns.trainer.PAIR_BYTES", pair_bytes)
        torch.manual_seed(5)
        for parameter in learnt:
            parameter.grad = None
        loss, sums = trainer._batch_losses(user, pos_item)
        loss.sum().backward()
        results.append((loss.detach(), sums, *(p.grad.clone() for p in learnt)))
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ahns", "softmax_v"])
def test_a_step_leaves_no_gradient_to_the_next(sampler, toy):
    keys = {"sampler": sampler, "candidate_num": 2}
    _, train, _, trainer = prepared(model="BPR", **toy, **keys)
    # one row is few enough for its gradient alone to be cleared
    user, pos_item = first_batch(trainer, train, 1)

    def gradient(users, positives):
        trainer.optimizer.zero_grad()
        torch.manual_seed(4)
        loss, _ = trainer._batch_losses(users, positives)
        loss.backward()
        return [parameter.grad.clone() for parameter in trainer.model.parameters()]

    fresh = gradient(user, pos_item)
    gradient(user % 29 + 1, pos_item)
    for a, b in zip(gradient(user, pos_item), fresh, strict=True):
        assert torch.equal(a, b)
