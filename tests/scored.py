"""Scores with which samplers select, and what they select, as lists."""

import math

import numpy as np
import torch
from fakes import FakeEncoded, batch_of, gradients, recorded, set_up, start, toy_pool
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_hns.batch import Batch, Candidates, Negatives, Scores
from recbole_hns.loss import LOSSES
from recbole_hns.training.step import part_losses

# few distinct values, so that ties are common
TIED = st.sampled_from([-3.0, -1.5, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0])
ANY = st.floats(-20, 20, allow_subnormal=False)


@st.composite
def scores(draw, min_num=1, max_num=9, excluded=False):
    """Scores of positives and candidates, float64, often with ties.

    Args:
        draw: hypothesis's.
        min_num: fewest candidates.
        max_num: most candidates.
        excluded: have some score minus infinity, in some rows perhaps all.
    """
    shape = draw(st.integers(1, 4)), draw(st.integers(min_num, max_num))
    elements = draw(st.sampled_from([TIED, ANY]))
    neg = draw(hnp.arrays(np.float64, shape, elements=elements))
    pos = draw(hnp.arrays(np.float64, (shape[0], 1), elements=elements))
    if excluded:
        neg[draw(hnp.arrays(bool, shape))] = -np.inf
    return Scores(torch.from_numpy(pos), torch.from_numpy(neg))


def scores_of(pos, neg, dtype=torch.float64):
    """Scores from lists, one row for each positive."""
    return Scores(torch.tensor(pos, dtype=dtype).view(-1, 1), torch.tensor(neg, dtype=dtype))


def candidates_of(scores, every=False, shared=False, **more):
    """Candidates with these scores; those that score minus infinity are excluded."""
    rows, num = scores.neg.shape
    items = torch.arange(1, num + 1)
    items = items.unsqueeze(0) if shared else items.repeat(rows, 1)
    excluded = (scores.neg == -math.inf).nonzero(as_tuple=True)
    excludes = shared or every or len(excluded[0])
    return Candidates(None if every else items, excluded if excludes else None, **more)


def select(sampler, scores, candidates=None):
    """The selection of a sampler that is called alone."""
    if candidates is None:
        candidates = candidates_of(scores, every=sampler.num_drawn == "all")
    rows = torch.arange(len(scores.neg))
    return sampler.select(scores, candidates, Batch.of(rows, rows))


def selected(sampler, scores):
    """Columns and weights that a sampler selects, as lists of lists, whatever it leaves out."""
    columns, weight, scale = select(sampler, scores)
    assert scale is None
    if columns is None:
        columns = torch.arange(scores.neg.shape[1]).expand(scores.neg.shape)
    if weight is None:
        weight = torch.full(columns.shape, 1 / columns.shape[1], dtype=scores.neg.dtype)
    return columns.tolist(), weight.tolist()


def shared_weights(sampler, scores):
    """Weight of every shared candidate in each row, ``[B, N]``, those excluded having 0."""
    candidates = candidates_of(scores, shared=True)
    negatives = Negatives.of(candidates, scores, select(sampler, scores, candidates))
    assert torch.isfinite(negatives.weights()).all()
    items = negatives.items.expand(len(scores.neg), -1)
    weight = torch.zeros(scores.neg.shape, dtype=scores.neg.dtype)
    weight.scatter_add_(1, items - 1, negatives.weights())
    inside = scores.neg > -math.inf
    assert not weight[~inside].any()
    torch.testing.assert_close(weight.sum(dim=1), inside.any(dim=1).double())
    return weight.tolist()


def rows_of(scores):
    """Each row's positive score, the scores of its candidates, as lists."""
    return zip(scores.pos.squeeze(1).tolist(), scores.neg.tolist(), strict=True)


def first_least(values):
    """Index of the smallest value, the first of equals."""
    return min(range(len(values)), key=lambda j: (values[j], j))


def loss_of(sampler):
    """The loss that a sampler has by default, with the values that it sets."""
    return LOSSES[sampler.default_loss](**sampler.loss_parameters())


def assert_learns(sampler, literal, epoch=0, cosine=False):
    """Loss and gradients of a part are those of a formula, row by row.

    Args:
        sampler: with its default loss.
        literal: gives a row's loss from the pool, the user, the ids of the candidates, the score
            of the positive and the list of theirs.
        epoch: counted from 0.
        cosine: have the embeddings' length be 1, as the model has it then.
    """
    pool = set_up(sampler, toy_pool())
    encoded = FakeEncoded.random(pool, scale=0.7, dtype=torch.float64)
    leaves = encoded.tables
    if cosine:
        encoded = FakeEncoded(*(table / table.norm(dim=1, keepdim=True) for table in leaves))
    start(sampler, epoch, encoded, pool)
    part = batch_of(pool)._replace(size=50)
    part = part._replace(shared=sampler.shared_items(part, pool))
    proposed = recorded(sampler, "propose")
    found, _ = part_losses(part, encoded, sampler, loss_of(sampler), pool)
    items = proposed[0].items.expand(len(part.user), -1).tolist()
    expected = 0
    for u, i, row in zip(part.user.tolist(), part.pos_item.tolist(), items, strict=True):
        pos, *neg = (encoded.user_table[u] @ encoded.item_table[item] for item in [i, *row])
        expected = expected + literal(pool, u, row, pos, neg) / 50
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    for a, b in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)  # log q is float32
