"""Rows of length 1 and their gradient against the formula."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from recbole_hns.ops import devices
from recbole_hns.ops.unit_rows import unit_rows

SMALLEST = 1e-3


@pytest.fixture(params=["CPU", "GPU"], autouse=True)
def way(request, monkeypatch):
    if request.param == "GPU":
        monkeypatch.setattr(devices, "on_cpu", lambda tensor: False)


def random(seed):
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(dtype=torch.float64):
    values = random(0)
    values[1] *= 1e4
    values[2] *= 1e-5  # shorter than the smallest length
    values[3] = 0
    return values.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_over_their_length(dtype):
    values = rows(dtype)
    found = unit_rows(values, SMALLEST)
    for row, of_found in zip(values.tolist(), found.tolist(), strict=True):
        length = max(math.sqrt(sum(x * x for x in row)), SMALLEST)
        assert of_found == pytest.approx([x / length for x in row], rel=1e-6)
    weight = random(1)
    (gradient,) = torch.autograd.grad((found * weight).sum(), values)
    plain = rows()
    lengths = torch.stack([(row @ row).sqrt() if row.any() else row.sum() for row in plain])
    expected = plain / lengths.clamp(min=SMALLEST).unsqueeze(1)
    (right,) = torch.autograd.grad((expected * weight).sum(), plain)
    torch.testing.assert_close(gradient.double(), right, rtol=1e-4, atol=1e-6)


def test_gradient_by_differences():
    assert gradcheck(lambda values: unit_rows(values, SMALLEST), rows()[[0, 4, 5]])


def test_parts_of_a_tensor_and_a_row_that_is_no_number():
    values = rows().detach().t().contiguous().t()
    values[0, 0] = math.nan
    found = unit_rows(values, SMALLEST)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1].norm(), torch.tensor(1.0, dtype=torch.float64))
