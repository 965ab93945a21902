"""Scores of lists of items, and their gradients, against products of gathered rows."""

import pytest
import torch

from recbole_hns.ops.list_scores import list_scores


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num", "item_num"), [(20, 11), (1, 80), (20, 80), (70, 80)])
def test_list_scores_and_its_gradients(num, item_num, dtype, threads):
    user_e = torch.randn(7, 3, dtype=dtype, requires_grad=True)
    table = torch.randn(item_num, 3, dtype=dtype, requires_grad=True)
    items = torch.randint(0, 11, (7, num))  # with repeats
    weight = torch.randn(7, num, dtype=dtype)
    found = list_scores(user_e, table, items)
    expected = (user_e.unsqueeze(1) * table[items]).sum(dim=2)
    torch.testing.assert_close(found, expected)
    inputs = (user_e, table)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
