"""Adjacency matrices, beside those that RecBole's models make."""

import types
from contextlib import suppress

import numpy as np
import pytest
import torch
from recbole.model.general_recommender import NCL, NGCF, LightGCN
from scipy.sparse import coo_matrix

from recbole_hns.model import adjacency


@pytest.mark.parametrize("model", [LightGCN, NCL, NGCF])
@pytest.mark.parametrize("seed", range(3))
def test_as_recboles_models_make_it(model, seed):
    rng = np.random.default_rng(seed)
    # ids in no order, pairs that come again, and users and items without any
    row, col = rng.integers(1, 40, 300), rng.integers(1, 60, 300) // 2 * 2
    pairs = coo_matrix((np.ones(300, np.float32), (row, col)), (41, 61))
    given = {"interaction_matrix": pairs, "n_users": 41, "n_items": 61, "device": "cpu"}
    ours, theirs = model.__new__(model), types.SimpleNamespace(**given)
    torch.nn.Module.__init__(ours)
    vars(ours).update(given)
    found = adjacency.normalised_adjacency(ours)
    expected = model.get_norm_adj_mat(theirs)
    assert found.shape == expected.shape
    assert torch.equal(found._indices(), expected._indices())
    assert torch.equal(found._values(), expected._values())
    assert (found.dtype, found.is_coalesced()) == (expected.dtype, expected.is_coalesced())
    if model is NCL:
        assert torch.equal(ours.diag, theirs.diag)


def test_methods_are_recboles_again():
    before = [model.get_norm_adj_mat for model in adjacency.MODELS]
    with suppress(ZeroDivisionError), adjacency.made_from_arrays():
        assert LightGCN.get_norm_adj_mat is adjacency.normalised_adjacency
        raise ZeroDivisionError
    assert [model.get_norm_adj_mat for model in adjacency.MODELS] == before
