"""Sums over rows of products against these sums, written out in float64."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from recbole_hns.ops import devices, threads
from recbole_hns.ops.product_sums import CatalogueSums, ProductSums

#: Row and column of what is in no sum; rows in no order, one of them with all but one.
EXCLUDED = [(4, 1), (0, 2), (4, 0), (6, 5), (4, 5), (4, 3), (4, 2), (2, 4)]


@pytest.fixture(params=["CPU", "GPU"], autouse=True)
def way(request, monkeypatch):
    if request.param == "GPU":
        monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)


@pytest.fixture(params=[6, 20, 100])
def _blocks(request, monkeypatch):
    """Of 1, 3 and all of the 7 rows."""
    monkeypatch.setattr(devices, "pairs_at_once", lambda tensor: request.param)


def factors(scale, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    query, item_e = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (7, 6))
    item_e[5] = item_e[4]  # ties
    return tuple(each.to(dtype).requires_grad_() for each in (query * scale, item_e))


def excluded():
    row, column = torch.tensor(EXCLUDED).t()
    return row, column


def literal(query, item_e, tau, left_out):
    """log sum_j exp(s_j / tau) and sum_j s_j of each row, pair by pair."""
    logs, sums = [], []
    for b, user in enumerate(query.double()):
        scores = [user @ item for j, item in enumerate(item_e.double()) if (b, j) not in left_out]
        highest = max(score.item() for score in scores)
        total = sum(torch.exp((score - highest) / tau) for score in scores)
        logs.append(highest / tau + torch.log(total))
        sums.append(sum(scores).detach())
    return torch.stack(logs), torch.stack(sums)


@pytest.fixture(params=[1, 2, 3], ids=lambda number: f"{number} threads")
def _threads(request, monkeypatch):
    monkeypatch.setattr(threads, "FEW_ROWS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_blocks", "_threads")
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("alike", [True, False], ids=["one factor", "a factor a row"])
@pytest.mark.parametrize("some", [True, False], ids=["some excluded", "none excluded"])
@pytest.mark.parametrize(("scale", "tau"), [(0.0, 1.0), (1.0, 0.1), (1.0, 0.01), (1e4, 1.0)])
def test_value_and_gradients(scale, tau, some, alike, linear):
    query, item_e = factors(scale)
    products = ProductSums(query, item_e, excluded() if some else None)
    found = products.log_sum_exp(tau, linear)
    expected, sums = literal(query, item_e, tau, EXCLUDED if some else [])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(products.sums, sums)
    weight = torch.full((7,), 0.3) if alike else torch.linspace(-1, 2, 7)
    for _ in range(2):  # a gradient may be taken again
        gradients = [
            torch.autograd.grad((value * weight).sum(), (query, item_e), retain_graph=True)
            for value in (found, expected)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_blocks")
def test_gradient_by_differences():
    assert gradcheck(lambda q, i: ProductSums(q, i, excluded()).log_sum_exp(0.5), factors(1.0))


@pytest.mark.parametrize(("scale", "tau"), [(1.0, 0.1), (1.0, 0.01), (1e4, 0.1)])
def test_single_precision(scale, tau):
    query, item_e = factors(scale, torch.float32)
    products = ProductSums(query, item_e, excluded())
    found = products.log_sum_exp(tau, linear=True)
    expected, sums = literal(query, item_e, tau, EXCLUDED)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products.sums.double(), sums, rtol=1e-5, atol=1e-5 * scale)
    for gradient in torch.autograd.grad(found.sum(), (query, item_e)):
        assert gradient.isfinite().all()


def test_one_item_and_a_score_that_is_no_number():
    query, item_e = torch.tensor([[2.0], [math.nan]]), torch.tensor([[3.0]])
    found = ProductSums(query, item_e, None).log_sum_exp(0.5)
    assert found[0] == 12
    assert found[1].isnan()


@pytest.mark.parametrize("pairs", [1, 14, 100], ids=["an item", "two items", "all items"])
@pytest.mark.parametrize("some", [True, False], ids=["some excluded", "none excluded"])
@pytest.mark.parametrize(("scale", "tau"), [(0.0, 1.0), (1.0, 0.1), (1.0, 0.01), (1e4, 1.0)])
def test_value_and_gradients_of_a_catalogue(scale, tau, some, pairs):
    query, item_e = factors(scale)
    products = CatalogueSums(query, item_e, excluded() if some else None, pairs)
    found = products.log_sum_exp(tau)
    expected, sums = literal(query, item_e, tau, EXCLUDED if some else [])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(products.sums, sums, rtol=1e-9, atol=1e-9)
    factor = torch.linspace(-1, 2, 7, dtype=torch.float64)
    gradients = torch.autograd.grad((found * factor).sum(), (query, item_e))
    of_literal = torch.autograd.grad((expected * factor).sum(), (query, item_e))
    for ours, theirs in zip(gradients, of_literal, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
