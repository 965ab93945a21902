"""ANS against its formulas, written out literally, row by row, in float64."""

import pytest
import torch
from fakes import (
    assert_finite_layers,
    assert_is_dns,
    assert_layers_with_one_negative_left,
    assert_learns,
    assert_learns_the_same_in_parts,
    batch_of,
    first_largest,
    gradients,
    layered_parameters,
    mean,
    ready_layers,
)

from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.ans import ANS


def literal(sampler, users, items, u, i, candidates, noise):
    """Scores, the gates' terms and the negative at layer 0; ``noise`` is ``[H, N, dim]``."""
    chosen, c1, c2, c3 = [], [], [], []
    for layer, (user, item) in enumerate(zip(users, items, strict=True)):
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
    pos = e_u @ mean([item[i] for item in items])
    more = mean(c1) + mean(c2) + sum(c3) / len(candidates)
    return pos, e_u @ mean(chosen), sampler.ans_gamma * more, chosen[0]


KEYS = [{"candidate_num": 5, "ans_c": 0.7}, {"candidate_num": 5, "ans_gamma": 0.0}]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("keys", KEYS, ids=str)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_loss_and_gradient(num_layers, keys, ties, in_place):
    assert_learns(ANS(**keys), literal, num_layers, ties, in_place, "noise")


@pytest.mark.parametrize("num_layers", [1, 3])
def test_learned_from_in_parts_it_is_the_same(num_layers):
    assert_learns_the_same_in_parts(ANS(candidate_num=5), num_layers)


def test_without_augmentation_and_further_terms_it_is_dns():
    sampler = ANS(candidate_num=8, ans_c=0, ans_gamma=0)
    encoded, pool = ready_layers(sampler, 1)
    assert_is_dns(sampler, encoded, pool, 8)


def test_one_negative_left():
    assert_layers_with_one_negative_left(ANS())


@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0])
def test_extreme_scores_stay_finite(scale):
    assert_finite_layers(ANS(), scale)


def test_a_margin_of_1_over_0_stays_finite():
    sampler = ANS()
    encoded, pool = ready_layers(sampler, 2)
    with torch.no_grad():
        sampler.margin.bias.zero_()
        for table in encoded.tables:
            table.zero_()
    value = sampler.batch_losses(batch_of(pool), encoded, pool, BPR()).loss
    assert torch.isfinite(value)
    for gradient in gradients(value, layered_parameters(sampler, encoded)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("model", ["NGCF", "SGL", "DGCF", "NCL", "SpectralCF", "ConvNCF"])
def test_models_without_such_layers_are_refused(model):
    with pytest.raises(UserError, match=f"model={model}: sampler=ans mixes the embeddings"):
        Config(model, sampler="ans")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"ans_gamma": -1}, "ans_gamma=-1: must be a number >= 0"),
        ({"ans_eps": -1}, "ans_eps=-1: must be a number >= 0"),
        ({"ans_c": -1}, "ans_c=-1: must be a number >= 0"),
        ({"candidate_num": "all"}, "candidate_num=all: must be an integer > 0"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
        ({"candidate_distribution": "in_batch"}, "candidate_distribution=in_batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        ANS(**keys)
