"""Sums over rows and products, without the copies of PyTorch's operations, against these."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from recbole_hns.ops import devices, kernels
from recbole_hns.ops.finite_sums import finite_sums
from recbole_hns.ops.log_sum_exp import log_sum_exp
from recbole_hns.ops.products import products


def random(*shape, seed=0, **keys):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **keys)


@pytest.mark.parametrize("tau", [0.05, 1.0, 3.0])
def test_log_sum_exp(tau):
    scores = random(6, 9, dtype=torch.float64)
    scores[0] = 2.0  # ties
    scores[1, 2:] = -math.inf
    scores[2] *= 1e4
    scores.requires_grad_()
    weight = random(6, seed=1, dtype=torch.float64)
    results = []
    for value in (log_sum_exp(scores, tau), torch.logsumexp(scores / tau, dim=1)):
        (gradient,) = torch.autograd.grad((value * weight).sum(), scores)
        results.append((value, gradient))
    torch.testing.assert_close(*results)


def test_gradient_of_log_sum_exp():
    scores = random(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s: log_sum_exp(s, 0.3), scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_finite_sums(dtype, on_cpu, monkeypatch):
    monkeypatch.setattr(devices, "on_cpu", lambda tensor: on_cpu)
    scores = torch.tensor([[1.0, -math.inf, 2.5], [-math.inf] * 3, [math.nan, 1, 2]], dtype=dtype)
    assert finite_sums(scores)[:2].tolist() == [3.5, 0]
    assert finite_sums(scores)[2].isnan()


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("loss", ["leaves them at 0", "gives them NaN"])
def test_products(loss, on_cpu, monkeypatch):
    monkeypatch.setattr(devices, "on_cpu", lambda tensor: on_cpu)
    query, item_e = (random(n, 3, seed=n, dtype=torch.float64) for n in (4, 5))
    inputs = query.requires_grad_(), item_e.requires_grad_()
    excluded = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 4])
    kept = torch.ones(4, 5, dtype=torch.bool)
    kept[excluded] = False
    known = (query @ item_e.t()).detach()
    known[excluded] = -math.inf
    expected = torch.autograd.grad((query @ item_e.t())[kept].square().sum(), inputs)
    for exclude in (excluded, None):
        scores = products(query, item_e, known, exclude)
        assert torch.equal(scores, known)
        if exclude is None or loss == "leaves them at 0":
            value = scores[kept].square().sum()
        else:
            value = torch.where(kept, scores.square(), 0).sum()
        for found, right in zip(torch.autograd.grad(value, inputs), expected, strict=True):
            torch.testing.assert_close(found, right)


def test_rows_are_cleared():
    table = torch.ones(4, 2)
    kernels.clear_rows(torch.tensor([2, 0, 2]).numpy(), table.numpy())
    assert table[:, 0].tolist() == [0, 1, 0, 1]
