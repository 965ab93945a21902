"""Inner products of users with lists of items, without a ``[batch, N, dim]`` tensor."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csc_array
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads

#: Up to so many items for each user, their gradients are added row by row.
FEW = 64


def list_scores(
    user_e: Tensor, item_table: Tensor, items: Tensor, known: Tensor | None = None
) -> Tensor:
    """Scores of a list of items for each user.

    Args:
        user_e: user embeddings, ``[batch, dim]``.
        item_table: embeddings of all items, ``[item_num, dim]``.
        items: item ids, ``[batch, N]``, int64; repeats are allowed.
        known: the result, if it was computed before; it is then only made differentiable.

    Returns:
        ``[batch, N]``: ``user_e[b] . item_table[items[b, n]]``, differentiable in both embeddings.
    """
    if items.shape[1] > len(item_table):
        # all scores are fewer, and PyTorch's sampled product refuses such a pattern
        return (user_e @ item_table.t()).gather(1, items)
    if known is None and not torch.is_grad_enabled():
        return _scores(user_e, item_table, items)
    return _ListScores.apply(user_e, item_table, items, known)


class _ListScores(torch.autograd.Function):
    """Forward a product sampled at the listed entries; backward two sparse products.

    With G the ``[batch, item_num]`` sparse matrix of the scores' gradients, the gradients are
    G @ item_table, computed as sums over bags of items, and G^T @ user_e.
    """

    @staticmethod
    def forward(
        ctx: Any, user_e: Tensor, item_table: Tensor, items: Tensor, known: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(user_e, item_table, items)
        ctx.item_grad = item_table.grad if item_table.is_leaf else None
        if known is not None:
            return known.clone()
        return _scores(user_e, item_table, items)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        user_e, item_table, items = ctx.saved_tensors
        grad = grad.contiguous()
        item_grad = None
        into = ctx.item_grad
        if into is None:
            into = item_grad = torch.zeros_like(item_table)
        few, on_cpu = items.shape[1] <= FEW, devices.on_cpu(items)
        if few and on_cpu:
            user_grad = torch.zeros_like(user_e)
            *rows, table = _arrays(items, grad, user_grad, item_table)
            threads.over_rows(kernels.add_user_gradients, items.numel(), *rows, whole=[table])
        else:
            user_grad = F.embedding_bag(items, item_table, mode="sum", per_sample_weights=grad)
        if on_cpu and (few or threads.number() > 1):
            arrays = _arrays(user_e, items, grad, into)
            threads.in_shares(items.numel(), partial(kernels.add_item_gradients, *arrays))
        elif few:
            added = grad.unsqueeze(2) * user_e.unsqueeze(1)
            into.index_add_(0, items.reshape(-1), added.view(-1, added.shape[2]))
        else:
            into += _sum_by_item(items, grad, user_e, len(into))
        return user_grad, item_grad, None, None


def _scores(user_e: Tensor, item_table: Tensor, items: Tensor) -> Tensor:
    batch, num = items.shape
    if devices.on_cpu(items):
        scores = user_e.new_empty(batch, num)
        *rows, table = _arrays(user_e, items, scores, item_table)
        threads.over_rows(kernels.list_products, items.numel(), *rows, whole=[table])
        return scores
    if num == 1:
        return (user_e * item_table.index_select(0, items[:, 0])).sum(dim=1, keepdim=True)
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, (batch + 1) * num, num, device=items.device),
        items.reshape(-1),
        user_e.new_zeros(batch * num),
        (batch, len(item_table)),
        check_invariants=False,
    )
    product = torch.sparse.sampled_addmm(pattern, user_e, item_table.t(), beta=0.0)
    return product.values().view(batch, num)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _sum_by_item(items: Tensor, grad: Tensor, user_e: Tensor, item_num: int) -> Tensor:
    """G^T @ user_e, ``[item_num, dim]``, where row b of G has ``grad[b]`` at ``items[b]``."""
    shape = item_num, len(items)
    if devices.on_cpu(grad):
        # a quarter to a half of the time of PyTorch's product
        start = np.arange(0, items.numel() + 1, items.shape[1])
        values, item = grad.reshape(-1).numpy(), items.reshape(-1).numpy()
        return torch.from_numpy(csc_array((values, item, start), shape=shape) @ user_e.numpy())
    row = torch.arange(len(items), device=items.device).repeat_interleave(items.shape[1])
    index = torch.stack([items.reshape(-1), row])
    transposed = torch.sparse_coo_tensor(index, grad.reshape(-1), shape, check_invariants=False)
    return torch.sparse.mm(transposed, user_e)
