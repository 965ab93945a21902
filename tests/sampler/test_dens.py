"""DENS against its formulas, written out literally, row by row, in float64."""

from types import SimpleNamespace

import pytest
import torch
from fakes import (
    assert_finite_layers,
    assert_layers_with_one_negative_left,
    assert_learns,
    assert_learns_the_same_in_parts,
    batch_of,
    first_largest,
    mean,
    ready_layers,
)

from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.dens import DENS


def literal(sampler, users, items, u, i, candidates, _):
    """Scores, the gates' terms and the negative at layer 0."""
    weight = sampler.relevant_weight()
    chosen, parts = [], []
    for user, item in zip(users, items, strict=True):
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
    p_r, p_ir, n_r, n_ir = (e_u @ mean(part) for part in zip(*parts, strict=True))
    gates = torch.log(1 + torch.exp(p_ir - p_r)) + torch.log(1 + torch.exp(n_r - n_ir))
    gates = gates + torch.log(1 + torch.exp(n_r - p_r)) + torch.log(1 + torch.exp(p_ir - n_ir))
    pos = e_u @ mean([item[i] for item in items])
    return pos, e_u @ mean(chosen), sampler.dens_gamma / 4 * gates, chosen[0]


KEYS = [
    {"candidate_num": 6, "dens_gamma": 0.3, "dens_alpha": 1.0},
    {"candidate_num": 60, "dens_alpha": 0.3},
]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("keys", KEYS, ids=str)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_loss_and_gradient(num_layers, keys, ties, in_place):
    assert_learns(DENS(**keys), literal, num_layers, ties, in_place)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_learned_from_in_parts_it_is_the_same(num_layers):
    assert_learns_the_same_in_parts(DENS(candidate_num=5), num_layers)


@pytest.mark.parametrize(
    ("warmup", "epochs", "weights"),
    [(0, [0, 5], [0.8, 0.8]), (4, [0, 1, 4, 9], [0, 0.2, 0.8, 0.8])],
)
def test_it_warms_up(warmup, epochs, weights):
    sampler = DENS(dens_alpha=0.8, dens_warmup=warmup)
    for sampler.epoch, weight in zip(epochs, weights, strict=True):
        assert sampler.relevant_weight() == pytest.approx(weight)


def test_gates_are_pytorchs_linear_layers_and_learn():
    sampler = DENS()
    embedding = SimpleNamespace(embedding_dim=16)
    sampler.setup(SimpleNamespace(item_embedding=embedding), 1)
    before = [p.detach() for p in sampler.parameters()]
    assert len(before) == 8
    assert all(0.2 < p.abs().max() <= 0.25 for p in before)  # uniform within 1 / sqrt(16)

    encoded, pool = ready_layers(sampler, 2)
    sampler.batch_losses(batch_of(pool), encoded, pool, BPR()).loss.backward()
    assert all(p.grad.any() for p in sampler.parameters())


def test_one_negative_left():
    assert_layers_with_one_negative_left(DENS())


@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0])
def test_extreme_scores_stay_finite(scale):
    assert_finite_layers(DENS(), scale)


@pytest.mark.parametrize("model", ["NGCF", "SGL", "DGCF", "NCL", "SpectralCF", "ConvNCF"])
def test_models_without_such_layers_are_refused(model):
    with pytest.raises(UserError, match=f"model={model}: sampler=dens mixes the embeddings"):
        Config(model, sampler="dens")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"dens_gamma": 0}, "dens_gamma=0: must be a number > 0: without their loss"),
        ({"dens_gamma": -1}, "dens_gamma=-1: must be a number > 0"),
        ({"dens_alpha": 1.5}, "dens_alpha=1.5: must be a number >= 0 and <= 1"),
        ({"dens_warmup": -1}, "dens_warmup=-1: must be an integer >= 0"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 0"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
        ({"candidate_distribution": "in_batch"}, "candidate_distribution=in_batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        DENS(**keys)
