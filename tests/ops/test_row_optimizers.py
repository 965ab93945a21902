"""Optimisers of rows against PyTorch's and against their formulas."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hns.ops import devices
from recbole_hns.ops.optimizer import load_optimizer
from recbole_hns.ops.row_optimizers import RowwiseAdagrad, SparseAdam

ROWS, DIM = 9, 5

#: The rows of each step, several of them twice, and one (8) never.
STEPS = [[0, 3, 3, 1], [3], [5, 0, 5, 5], [7, 6, 4, 2, 1, 0], [3, 0]]


@pytest.fixture(params=["CPU", "GPU"])
def way(request, monkeypatch):
    if request.param == "GPU":
        monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)


def gradients(steps, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(len(ids), DIM, generator=generator, dtype=dtype) for ids in steps]


def table(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.nn.Parameter(torch.randn(ROWS, DIM, generator=generator, dtype=dtype))


def trained(make, steps, grads, told=True):
    """A table after steps, and the optimiser."""
    parameter = table(grads[0].dtype)
    touched = {}
    optimizer = make([parameter], 0.1, [parameter], lambda: touched)
    for ids, rows in zip(steps, grads, strict=True):
        ids = torch.tensor(ids, dtype=torch.int64)
        parameter.grad = torch.zeros_like(parameter).index_add_(0, ids, rows)
        if told:
            touched[parameter] = ids
        optimizer.step()
        assert parameter.grad is not None
    return parameter.detach(), optimizer


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-6])
def test_sparse_adam_is_pytorchs(told, dtype, scale):
    grads = gradients(STEPS, dtype, scale)
    found, optimizer = trained(SparseAdam, STEPS, grads, told)
    parameter = table(dtype)
    pytorchs = torch.optim.SparseAdam([parameter], lr=0.1)
    for ids, rows in zip(STEPS, grads, strict=True):
        parameter.grad = torch.sparse_coo_tensor(
            torch.tensor([ids]), rows, (ROWS, DIM), check_invariants=True
        )
        pytorchs.step()
    close = 2e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(found, parameter.detach(), rtol=close, atol=close)
    [own], [theirs] = optimizer.state.values(), pytorchs.state.values()
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(own[name], theirs[name], rtol=1e-5, atol=0)


@pytest.mark.usefixtures("way")
@given(steps=st.lists(st.lists(st.integers(0, ROWS - 1), max_size=30), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_rowwise_adagrad_is_its_formula(steps):
    grads = gradients(steps)
    for told in (True, False):
        found, optimizer = trained(RowwiseAdagrad, steps, grads, told)
        rows, state = table().detach().double().numpy(), np.zeros(ROWS)
        for ids, added in zip(steps, grads, strict=True):
            gradient = np.zeros((ROWS, DIM))
            for each, row in zip(ids, added.double().numpy(), strict=True):
                gradient[each] += row
            for row in range(ROWS):
                state[row] += (gradient[row] ** 2).mean()
                rows[row] -= 0.1 * gradient[row] / (np.sqrt(state[row]) + 1e-10)
        np.testing.assert_allclose(found.numpy(), rows, rtol=1e-4, atol=1e-5)
        [own] = optimizer.state.values()
        np.testing.assert_allclose(own["sum"].numpy(), state, rtol=1e-5)
        never = list(set(range(ROWS)) - {each for ids in steps for each in ids})
        assert torch.equal(found[never], table().detach()[never])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("make", [SparseAdam, RowwiseAdagrad])
def test_rows_without_a_gradient_stay(make):
    parameter = table()
    touched = {parameter: torch.tensor([1, 2, 2])}
    optimizer = make([parameter], 0.1, [parameter], lambda: touched)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad[1] = 1e4
    before = copy.deepcopy(optimizer.state_dict()["state"][0])
    values = parameter.detach().clone()
    assert torch.equal(values[3:], table().detach()[3:])
    optimizer.step()
    changed = (parameter != values).any(dim=1).nonzero().view(-1).tolist()
    assert changed == [1]  # not 2: momentum alone moves no row
    for name, value in optimizer.state_dict()["state"][0].items():
        if value.dim():
            others = [0, *range(2, ROWS)]
            assert torch.equal(value[others], before[name][others])
    assert parameter.isfinite().all()


@pytest.mark.parametrize(
    ("make", "dense"), [(SparseAdam, torch.optim.Adam), (RowwiseAdagrad, torch.optim.Adagrad)]
)
def test_other_parameters_have_the_dense_optimiser(make, dense):
    found = []
    for rows in (True, False):
        tables, other = table(), torch.nn.Parameter(torch.ones(3))
        optimizer = make([tables, other], 0.1, [tables]) if rows else dense([other], lr=0.1)
        for step in range(3):
            other.grad = torch.tensor([1.0, 0.0, -2.0]) * (step + 1)
            optimizer.step()
        assert torch.equal(tables, table())
        found.append(other.detach())
    assert torch.equal(*found)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("make", [SparseAdam, RowwiseAdagrad])
def test_a_state_is_loaded_and_goes_on_exactly(make):
    grads = gradients(STEPS)
    right, _ = trained(make, STEPS, grads)
    parameter, optimizer = trained(make, STEPS[:2], grads[:2])
    state = copy.deepcopy(optimizer.state_dict())
    parameter, touched = torch.nn.Parameter(parameter), {}
    optimizer = make([parameter], 0.1, [parameter], lambda: touched)
    load_optimizer(optimizer, state)
    for ids, rows in zip(STEPS[2:], grads[2:], strict=True):
        touched[parameter] = torch.tensor(ids)
        parameter.grad = torch.zeros_like(parameter).index_add_(0, touched[parameter], rows)
        optimizer.step()
    assert torch.equal(parameter, right)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (SparseAdam, "exp_avg", torch.zeros(ROWS)),
        (SparseAdam, "exp_avg_sq", torch.zeros(1, DIM).expand(ROWS, DIM)),
        (SparseAdam, "step", torch.tensor(-1.0)),
        (RowwiseAdagrad, "sum", torch.zeros(ROWS, DIM)),
        (RowwiseAdagrad, "sum", torch.zeros(ROWS - 1)),
        (RowwiseAdagrad, "sum", torch.zeros(1).expand(ROWS)),
        (RowwiseAdagrad, "sum", torch.zeros(2 * ROWS)[::2]),
        (RowwiseAdagrad, "more", torch.zeros(ROWS)),
    ],
)
def test_states_that_no_step_can_be_made_from(make, name, value):
    _, optimizer = trained(make, STEPS, gradients(STEPS))
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0][name] = value
    with pytest.raises((AttributeError, TypeError, ValueError)):
        load_optimizer(optimizer, state)
