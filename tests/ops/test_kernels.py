"""The compiled loops, where a test of what calls them does not reach."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_hns.ops import kernels
from recbole_hns.ops.list_scores import list_scores


def test_machine_code_is_kept_only_where_a_folder_can_be_written(monkeypatch):
    asked = []

    def njit(cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(kernels, "numba", SimpleNamespace(njit=njit))
    assert kernels._compiled()(lambda number: number + 1)(2) == 3
    assert asked == [True, False]


@pytest.mark.parametrize("own", [[], [1], [9], [1, 2, 3, 8], list(range(1, 9))])
def test_the_unused_item_of_a_number(own):
    used = np.array([4, *own, 2])
    unused = [item for item in range(1, 10) if item not in own]
    found = [kernels._unused(used, 1, 1 + len(own), number) for number in range(len(unused))]
    assert found == unused


@pytest.mark.parametrize("number", [-1, 4, 2**40])
def test_an_item_that_is_none_is_refused(number):
    user_e, table = torch.ones(1, 2), torch.ones(4, 2, requires_grad=True)
    items = torch.tensor([[3, number]])
    with pytest.raises(IndexError, match="not among those of the embeddings"):
        kernels.list_products(
            user_e.numpy(), items.numpy(), np.empty((1, 2), np.float32), table.detach().numpy()
        )
    scores = list_scores(user_e, table, items, known=torch.zeros(1, 2))
    with pytest.raises(IndexError, match="not among those of the embeddings"):
        scores.sum().backward()
