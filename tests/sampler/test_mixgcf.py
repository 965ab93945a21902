"""MixGCF against its formulas, written out literally, row by row, in float64."""

import math

import pytest
import torch
from fakes import (
    FakeLayers,
    assert_finite_layers,
    assert_is_dns,
    assert_layers_with_one_negative_left,
    assert_learns,
    assert_learns_the_same_in_parts,
    batch_of,
    first_largest,
    mean,
    ready_layers,
    set_up,
    toy_pool,
)

from recbole_hns.batch import Batch
from recbole_hns.config import Config
from recbole_hns.errors import UserError
from recbole_hns.loss.bpr import BPR
from recbole_hns.sampler.mixgcf import MixGCF


def literal(sampler, users, items, u, i, candidates, weight):
    """Scores, no further terms and the negative at layer 0; ``weight`` is ``[H]``."""
    user = mean([table[u] for table in users])
    stack = []
    for a, table in zip(weight, items, strict=True):
        mixtures = [a * table[i] + (1 - a) * table[j] for j in candidates]
        stack.append(mixtures[first_largest([user @ m for m in mixtures])])
    return user @ mean([table[i] for table in items]), user @ mean(stack), 0, stack[0]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_loss_and_gradient(num_layers, ties, in_place):
    sampler = MixGCF(candidate_num=6)
    assert_learns(sampler, literal, num_layers, ties, in_place, "mixing_weights")


@pytest.mark.parametrize("num_layers", [1, 3])
def test_learned_from_in_parts_it_is_the_same(num_layers):
    assert_learns_the_same_in_parts(MixGCF(candidate_num=5), num_layers)


def test_mixing_weights_are_uniform_for_each_row_and_layer():
    weight = MixGCF().mixing_weights(torch.zeros(3, 20_000))
    assert weight.min() >= 0
    assert weight.max() < 1
    counts = torch.histc(weight, 20, 0, 1)
    assert ((counts - 3000) ** 2 / 3000).sum() < 43.8  # 0.1% point of 19 degrees of freedom
    assert not torch.equal(weight[0], weight[1])


def test_without_the_positive_it_is_dns():
    sampler = MixGCF(candidate_num=8)
    encoded, pool = ready_layers(sampler, 1)
    sampler.mixing_weights = torch.zeros_like
    assert_is_dns(sampler, encoded, pool, 8)


def by_hand(weight):
    """One dimension, where embeddings are scores: user 1, positive 2, candidates 1 and -1."""
    sampler = MixGCF()
    pool = set_up(sampler, toy_pool(), 1)
    users, items = torch.ones(31, 1), torch.zeros(41, 1)
    items[[1, 2, 3], 0] = torch.tensor([2.0, 1.0, -1.0])
    pool.draw = lambda user, num: torch.tensor([[2, 3]])
    sampler.mixing_weights = lambda scores: torch.full_like(scores, weight)
    part = Batch.of(torch.tensor([1]), torch.tensor([1]))
    return sampler.batch_losses(part, FakeLayers([users], [items]), pool, BPR())


def test_by_hand():
    learned = by_hand(0.25)
    assert learned.loss.item() == pytest.approx(0.3868710, abs=1e-7)
    assert learned.negatives.tolist() == [[1.25]]
    # the candidate's score, not the mixture's
    assert [scores.item() for scores in learned.scores] == [2, 1]
    assert by_hand(1.0).loss.item() == pytest.approx(math.log(2))


def test_among_all_negatives():
    sampler = MixGCF(candidate_num="all")
    encoded, pool = ready_layers(sampler, 3)
    sampler.mixing_weights = torch.zeros_like
    part = batch_of(pool)
    learned = sampler.batch_losses(part, encoded, pool, BPR())
    own = mean([table[part.user] for table in encoded.users])
    hardest = []
    for table in encoded.items:
        scores = pool.exclude(part.user, (own @ table.t()).detach().clone())
        item = scores.argmax(dim=1)
        assert not pool.is_used(part.user, item).any()
        hardest.append(scores.amax(dim=1))
        if table is encoded.items[0]:
            assert torch.equal(learned.negatives, table[item])
    torch.testing.assert_close(learned.scores.neg.squeeze(1), mean(hardest))


def test_one_negative_left():
    assert_layers_with_one_negative_left(MixGCF())


@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0])
def test_extreme_scores_stay_finite(scale):
    assert_finite_layers(MixGCF(), scale)


@pytest.mark.parametrize("model", ["NGCF", "SGL", "DGCF", "NCL", "SpectralCF", "ConvNCF"])
def test_models_without_such_layers_are_refused(model):
    with pytest.raises(UserError, match=f"model={model}: sampler=mixgcf mixes the embeddings"):
        Config(model, sampler="mixgcf")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"candidate_num": 0}, "candidate_num=0: must be an integer > 0"),
        ({"candidate_sharing": "batch"}, "candidate_sharing=batch"),
        ({"candidate_distribution": "in_batch"}, "candidate_distribution=in_batch"),
    ],
)
def test_what_it_refuses(keys, text):
    with pytest.raises(UserError, match=text):
        MixGCF(**keys)
