"""MixGCF, DENS and ANS against their formulas, written out literally, row by row, in float64."""

import math

import pytest
import torch
from conftest import QUIET, first_batch, prepared, step

from recbole_hns import run
from recbole_hns.sampler.ans import ANS

MODELS = [("BPR", 0), ("LightGCN", 0), ("LightGCN", 2)]
REG = 0.1


@pytest.fixture(autouse=True)
def float64():
    """RecBole's EmbLoss adds up in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def ready(toy, model, n_layers, ties=False, **keys):
    """Trainer with parameters in float64, and a batch."""
    more = {"embedding_size": 4, "n_layers": n_layers, "reg_weight": REG, "require_pow": True}
    _, train, _, trainer = prepared(model=model, **toy, **more, **keys)
    with torch.no_grad():
        for parameter in (*trainer.model.double().parameters(), *trainer.sampler.parameters()):
            parameter.normal_(0, 0.7)
        if ties:  # every two items alike
            table = trainer.model.item_embedding.weight
            table[1::2] = table[0 : len(table) - 1 : 2]
    if model == "LightGCN":
        trainer.model.norm_adj_matrix = trainer.model.norm_adj_matrix.double()
    return trainer, first_batch(trainer, train, 20)


def recorded(target, name):
    """Calls of a method, and what it returned."""
    method, results = getattr(target, name), []

    def call(*args):
        results.append(method(*args))
        return results[-1]

    setattr(target, name, call)
    return results


def propagated(trainer):
    """Users' and items' tables of every layer, with gradient."""
    network = trainer.model
    tables = network.user_embedding.weight, network.item_embedding.weight
    layers = [torch.cat(tables)]
    for _ in range(getattr(network, "n_layers", 0)):
        layers.append(network.norm_adj_matrix.to_dense() @ layers[-1])
    return zip(*(layer.split([len(table) for table in tables]) for layer in layers))


def mean(rows):
    return sum(rows) / len(rows)


def softplus(x):
    return torch.log1p(torch.exp(x))


def first_largest(scores):
    return max(range(len(scores)), key=lambda j: (scores[j].item(), -j))


def literal_mixgcf(sampler, users, items, u, i, candidates, weights):
    """Loss of one positive, and its negative at layer 0. ``weights`` is ``[H]``."""
    user = mean([table[u] for table in users])
    stack = []
    for a, table in zip(weights, items):
        mixtures = [a * table[i] + (1 - a) * table[j] for j in candidates]
        stack.append(mixtures[first_largest([user @ m for m in mixtures])])
    positive = mean([table[i] for table in items])
    return softplus(user @ mean(stack) - user @ positive), stack[0]


def literal_dens(sampler, users, items, u, i, candidates, _):
    weight = sampler.relevant_weight()
    chosen, parts = [], []
    for user, item in zip(users, items):
        e_u, e_i = user[u], item[i]
        gate = torch.sigmoid(sampler.positive_gate(e_i) + sampler.user_gate(e_u))
        p_r, scores, split = e_i * gate, [], []
        for j in candidates:
            n_gate = sampler.candidate_gate(item[j]) + sampler.relevant_gate(p_r)
            n_r = item[j] * torch.sigmoid(n_gate)
            scores.append((1 - weight) * (e_u @ (item[j] - n_r)) - weight * (e_u @ n_r))
            split.append((n_r, item[j] - n_r))
        best = first_largest(scores)
        chosen.append(item[candidates[best]])
        parts.append((p_r, e_i - p_r, *split[best]))
    e_u = mean([user[u] for user in users])
    p_r, p_ir, n_r, n_ir = (e_u @ mean(part) for part in zip(*parts))
    bpr = softplus(e_u @ mean(chosen) - e_u @ mean([item[i] for item in items]))
    gates = softplus(p_ir - p_r) + torch.log(1 + torch.exp(n_r - n_ir))
    gates = gates + torch.log(1 + torch.exp(n_r - p_r)) + torch.log(1 + torch.exp(p_ir - n_ir))
    return bpr + sampler.dens_gamma / 4 * gates, chosen[0]


def literal_ans(sampler, users, items, u, i, candidates, noise):
    chosen, c1, c2, c3 = [], [], [], []
    for layer, (user, item) in enumerate(zip(users, items)):
        e_u, e_i = user[u], item[i]
        augmented, criterion, differences = [], [], []
        for number, j in enumerate(candidates):
            g = torch.sigmoid(sampler.item_gate(item[j]) * sampler.user_gate(e_u))
            n_h = item[j] * g
            n_e = item[j] - n_h
            p_h = e_i * g
            p_e = e_i - p_h
            margin = torch.sigmoid(1 / sampler.margin(n_h * p_h))
            xi = noise[layer, number]
            direction = torch.sign(p_e - n_e) * xi / xi.norm()
            augmented.append(item[j] + sampler.ans_c * margin * direction)
            gain = e_u @ augmented[-1] - e_u @ item[j]
            criterion.append(e_u @ augmented[-1] + sampler.ans_eps * gain)
            differences.append(torch.exp(e_u @ n_e - e_u @ n_h))
            c2.append((n_h - p_h + 1e-6).norm())
            c3.append((p_e * n_e).norm())
        chosen.append(augmented[first_largest(criterion)])
        c1.append(torch.log(1 + sum(differences)))
    e_u = mean([user[u] for user in users])
    bpr = softplus(e_u @ mean(chosen) - e_u @ mean([item[i] for item in items]))
    more = mean(c1) + mean(c2) + sum(c3) / len(candidates)
    return bpr + sampler.ans_gamma * more, chosen[0]


METHODS = {
    "mixgcf": (literal_mixgcf, "mixing_weights", {"candidate_num": 6}),
    "dens": (literal_dens, None, {"candidate_num": 6, "dens_gamma": 0.3, "dens_alpha": 1.0}),
    "dens-mixed": (literal_dens, None, {"candidate_num": 60, "dens_alpha": 0.3}),
    "ans": (literal_ans, "noise", {"candidate_num": 5, "ans_c": 0.7}),
    "ans-bare": (literal_ans, "noise", {"candidate_num": 5, "ans_gamma": 0.0}),
}


@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("model", "n_layers"), MODELS, ids=str)
def test_loss_and_gradient_of_a_step(model, n_layers, name, ties, toy):
    literal, randomness, keys = METHODS[name]
    keys = {"sampler": name.partition("-")[0], **keys}
    trainer, batch = ready(toy, model, n_layers, ties, **keys)
    sampler = trainer.sampler
    learned = [*trainer.model.parameters(), *sampler.parameters()]
    drawn = recorded(trainer.pool, "draw")
    random = recorded(sampler, randomness) if randomness else None
    losses, sums = step(trainer, batch)
    losses.sum().backward()
    found = [parameter.grad for parameter in learned]
    for parameter in learned:
        parameter.grad = None

    users, items = propagated(trainer)
    total = 0
    for row, (u, i) in enumerate(zip(batch.user.tolist(), batch.pos_item.tolist())):
        each = random[0][:, row] if random else None
        loss, negative = literal(sampler, users, items, u, i, drawn[0][row].tolist(), each)
        rows = (users[0][u], items[0][i], negative)
        l2 = 0 if model == "BPR" else REG / 2 * sum((each**2).sum() for each in rows)
        total = total + (loss + l2) / batch.size
    total.backward()
    assert losses.item() == pytest.approx(total.item(), rel=1e-9)
    for parameter, gradient in zip(learned, found):
        expected = parameter.grad
        if gradient is None:  # gates that this loss does not reach
            assert expected is None or not expected.any()
        else:
            expected = torch.zeros_like(gradient) if expected is None else expected
            torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-11)
    assert torch.isfinite(sums).all()


@pytest.mark.parametrize("name", ["mixgcf", "dens", "ans"])
@pytest.mark.parametrize(("model", "n_layers"), MODELS, ids=str)
def test_learned_from_in_parts_it_is_the_same(model, n_layers, name, toy, monkeypatch):
    trainer, batch = ready(toy, model, n_layers, sampler=name, candidate_num=5)
    sampler = trainer.sampler
    learned = [*trainer.model.parameters(), *sampler.parameters()]
    # the same whatever the part
    trainer.pool.draw = lambda users, num: (users.unsqueeze(1) * torch.arange(3, 8)) % 39 + 1
    sampler.mixing_weights = lambda scores: scores.detach().sigmoid()
    sampler.noise = lambda embeddings: embeddings.detach().sigmoid()
    results = []
    for pairs in (100, 7 * 5):
        monkeypatch.setattr(trainer.adapter, "pairs_in_memory", lambda _, pairs=pairs: pairs)
        for parameter in learned:
            parameter.grad = None
        losses, sums = step(trainer, batch)
        (3 * losses).sum().backward()
        results.append((losses.detach(), sums, *(p.grad for p in learned)))
    for whole, in_parts in zip(*results):
        if whole is not None:
            torch.testing.assert_close(whole, in_parts.view_as(whole), rtol=1e-9, atol=1e-12)


def test_memory_for_embeddings_is_counted(toy):
    trainer, _ = ready(toy, "LightGCN", 2, sampler="ans", step_memory=1)
    row = 4 * 8 * 3  # dim, bytes of a number, layers
    assert trainer.adapter.row_bytes == row
    assert trainer.adapter.pairs_in_memory(ANS.rows_per_pair) == 2**20 // (
        64 + ANS.rows_per_pair * row
    )


def test_dens_gates_are_pytorchs_linear_layers_and_learn(toy):
    torch.set_default_dtype(torch.float32)
    _, train, _, trainer = prepared(model="LightGCN", sampler="dens", embedding_size=16, **toy)
    before = [p.detach().clone() for p in trainer.sampler.parameters()]
    assert len(before) == 8
    assert all(0.2 < p.abs().max() <= 0.25 for p in before)  # uniform within 1 / sqrt(16)
    trainer.pool = trainer._pool_of(train)
    trainer._train_epoch(train, 0)
    assert all((a != b).any() for a, b in zip(before, trainer.sampler.parameters()))


# edge cases


@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0])
@pytest.mark.parametrize("name", ["mixgcf", "dens", "ans"])
@pytest.mark.parametrize("require_pow", [True, False])
def test_scores_of_0_and_of_10000_stay_finite(name, scale, require_pow, toy, monkeypatch):
    torch.set_default_dtype(torch.float32)
    keys = {"sampler": name, "require_pow": require_pow, "n_layers": 1, "reg_weight": 1.0}
    _, train, _, trainer = prepared(model="LightGCN", **toy, **keys, embedding_size=4)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.copy_(torch.randn_like(parameter).sign() * scale)
        if name == "ans":  # x = 0 exactly
            trainer.sampler.margin.bias.zero_()
    batch = first_batch(trainer, train)
    for pairs in (10**6, 500):
        monkeypatch.setattr(trainer.adapter, "pairs_in_memory", lambda _, pairs=pairs: pairs)
        trainer.optimizer.zero_grad()
        losses, _ = step(trainer, batch)
        losses.sum().backward()
        assert torch.isfinite(losses).all()
        for parameter in (*trainer.model.parameters(), *trainer.sampler.parameters()):
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("name", ["mixgcf", "dens", "ans"])
def test_a_run_with_one_negative_left(name, write_dataset):
    torch.set_default_dtype(torch.float32)
    pairs = [(0, i) for i in range(11)] + [(u, i) for u in range(1, 9) for i in range(u, u + 4)]
    keys = {**QUIET, **write_dataset([*pairs, (9, 11)]), "eval_args": {"split": {"RS": [8, 1, 1]}}}
    result = run(
        sampler=name, config_dict={**keys, "epochs": 2, "topk": 3, "valid_metric": "MRR@3"}
    )
    assert all(math.isfinite(value) for value in result["test_result"].values())
