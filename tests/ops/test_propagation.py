"""Products with an adjacency matrix against dense ones."""

import pytest
import torch

from recbole_hns.ops.propagation import Adjacency


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
