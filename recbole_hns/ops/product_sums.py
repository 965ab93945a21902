"""Sums over the scores of each row, without the matrix of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads

#: Exponentials of numbers up to this, and down to minus this, are far from the ends of float32.
BOUND = 40.0


class ProductSums:
    """Inner products of all queries with all of some items, for losses that need sums of them only.

    They are made for as many rows at a time as stay in a CPU's cache: one pass over a matrix of
    them in memory takes half of the time of the product that makes it.

    Args:
        query: ``[B, dim]``.
        item_e: ``[N, dim]``.
        excluded: row and column of products that are in no sum, two int64 tensors of one length;
            not all of any row.

    Attributes:
        sums: sum of each row, ``[B]``, without gradient, once :meth:`log_sum_exp` was called.
    """

    sums: Tensor

    def __init__(
        self, query: Tensor, item_e: Tensor, excluded: tuple[Tensor, Tensor] | None
    ) -> None:
        self._query, self._item_e, self._excluded = query, item_e, excluded

    def log_sum_exp(self, tau: float, linear: bool = False) -> Tensor:
        """Log sum_j exp(s_j / tau) of each row, ``[B]``.

        Args:
            tau: the temperature, > 0.
            linear: whether the gradient in it will likely be the same in all rows; all of the
                gradient but for that factor is then computed at once. It is right in any case.
        """
        query, item_e = self._query.detach() / tau, self._item_e.detach()
        exponentials = _Exponentials(query, item_e, self._excluded)
        # another device would be waited for, to see whether it is
        linear = linear and devices.on_cpu(query)
        value = _LogSumExp.apply(self._query, self._item_e, exponentials, tau, linear)
        self.sums = (query @ item_e.sum(dim=0) - exponentials.left_out) * tau
        return value


class CatalogueSums(ProductSums):
    """The same of a whole catalogue, some items at a time, for all queries.

    With many items even the products of few queries are no block to multiply well. Here they are
    made twice, for the sums and for the gradient, and no more than a block of them is ever there.

    Args:
        query: ``[B, dim]``.
        item_e: ``[N, dim]``.
        excluded: as :class:`ProductSums` has it.
        pairs: products in memory at a time.
    """

    def __init__(
        self,
        query: Tensor,
        item_e: Tensor,
        excluded: tuple[Tensor, Tensor] | None,
        pairs: int,
    ) -> None:
        super().__init__(query, item_e, excluded)
        self._size = max(1, pairs // max(1, len(query)))

    def log_sum_exp(self, tau: float, linear: bool = False) -> Tensor:
        """Log sum_j exp(s_j / tau) of each row, ``[B]``."""
        query, item_e = self._query.detach(), self._item_e.detach()
        self.sums = query @ item_e.sum(dim=0)
        if self._excluded is not None:
            row, column = self._excluded
            self.sums.index_add_(0, row, -(query[row] * item_e[column]).sum(dim=1))
        items = _Items(item_e, self._excluded, self._size)
        return _CatalogueLogSumExp.apply(self._query, self._item_e, items, tau)


class _Items:
    """Products of queries with all items, some of these at a time."""

    def __init__(self, item_e: Tensor, excluded: tuple[Tensor, Tensor] | None, size: int) -> None:
        self.num, self._parts = len(item_e), item_e.split(size)
        self._excluded: list[tuple[Tensor, Tensor]] = []
        if excluded is not None:
            column, order = excluded[1].sort()
            ends = torch.arange(size, len(item_e) + size, size, device=column.device)
            ends = torch.searchsorted(column, ends)
            counts = ends.diff(prepend=ends.new_zeros(1)).tolist()
            rows = excluded[0][order].split(counts)
            self._excluded = list(zip(rows, (column % size).split(counts), strict=True))

    def blocks(self, query: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Items, ``[n, dim]``, and the products, ``[B, n]``, minus infinity where excluded."""
        for number, items in enumerate(self._parts):
            products = query @ items.t()
            if self._excluded:
                products[self._excluded[number]] = -torch.inf
            yield items, products


class _CatalogueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, item_e: Tensor, items: _Items, tau: float) -> Tensor:
        total = query.new_full((len(query),), -torch.inf)
        for _, products in items.blocks(query / tau):
            total = torch.logaddexp(total, products.logsumexp(dim=1))
        ctx.items, ctx.tau = items, tau
        ctx.save_for_backward(query, total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, total = ctx.saved_tensors
        query_grad = torch.zeros_like(query)
        item_grad = query.new_empty(ctx.items.num, query.shape[1])
        start = 0
        factor = (grad / ctx.tau).unsqueeze(1)
        for items, products in ctx.items.blocks(query / ctx.tau):
            weight = (products - total.unsqueeze(1)).exp_().mul_(factor)
            query_grad.addmm_(weight, items)
            torch.mm(weight.t(), query, out=item_grad[start : start + len(items)])
            start += len(items)
        return query_grad, item_grad, None, None


class _Exponentials:
    """exp(s) of the products of queries and items, 0 for what is excluded, block by block.

    Rows are divided among threads: each multiplies, sums and multiplies again what its own cache
    holds, without waiting for the others in between.

    Attributes:
        parts: into which the rows are divided.
        highest: what was subtracted from each row's products, ``[B]``.
        left_out: sum of what is excluded in each row, ``[B]``, after a pass over the blocks.
    """

    def __init__(
        self, query: Tensor, item_e: Tensor, excluded: tuple[Tensor, Tensor] | None
    ) -> None:
        self.query, self.item_e, self._excluded = query, item_e, excluded
        self.highest, self.left_out = query.new_zeros(2, len(query))
        # cosines over most temperatures: no need to look for the highest of each row; another
        # device would be waited for
        self._bounded = devices.on_cpu(query) and _longest(query) * _longest(item_e) <= BOUND
        # some four products take as long as to read a row of a table
        num = threads.parts(len(query) * len(item_e) // 4) if devices.on_cpu(query) else 1
        self.parts = max(1, min(num, len(query)))

    def blocks(self, part: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows of a part, and their exponentials, in memory that the next ones will take."""
        size = max(1, devices.pairs_at_once(self.query) // self.parts // len(self.item_e))
        first, end = (len(self.query) * each // self.parts for each in (part, part + 1))
        memory = self.query.new_empty(min(size, end - first), len(self.item_e))
        self.left_out[first:end] = 0
        for start in range(first, end, size):
            rows = slice(start, min(start + size, end))
            query = self.query[rows]
            products = torch.mm(query, self.item_e.t(), out=memory[: len(query)])
            if self._excluded is not None:
                _leave_out(products, start, *self._excluded, self.left_out)
            if not self._bounded:
                torch.amax(products, 1, out=self.highest[rows])
                products -= self.highest[rows].unsqueeze(1)
            yield rows, products.exp_()


def _longest(rows: Tensor) -> float:
    # a batch of masked positions may have none
    return rows.norm(dim=1).max().item() if len(rows) else 0.0


def _leave_out(products: Tensor, start: int, row: Tensor, column: Tensor, sums: Tensor) -> None:
    """Set what is excluded of rows from ``start`` on to minus infinity, and add it to the sums."""
    if devices.by_kernel(products):
        kernels.leave_out(products.numpy(), start, row.numpy(), column.numpy(), sums.numpy())
        return
    if len(products) < len(sums):
        inside = ((row >= start) & (row < start + len(products))).nonzero().squeeze(1)
        row, column = row[inside], column[inside]
    sums.index_add_(0, row, products[row - start, column])
    products[row - start, column] = -torch.inf


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, item_e: Tensor, products: _Exponentials, tau: float, linear: bool
    ) -> Tensor:
        total = query.new_empty(len(query))
        query_grad = torch.empty_like(query)
        item_grads = item_e.new_zeros(products.parts if linear else 0, *item_e.shape[::-1])

        def work(part: int) -> None:
            for rows, terms in products.blocks(part):
                torch.sum(terms, 1, out=total[rows])
                torch.mm(terms, item_e, out=query_grad[rows])
                if linear:
                    item_grads[part].addmm_((query[rows] / total[rows].unsqueeze(1)).t(), terms)

        threads.run(work, products.parts)
        query_grad /= total.unsqueeze(1)
        ctx.products, ctx.tau = products, tau
        ctx.item_grad = item_grads.sum(dim=0) if linear else None
        ctx.save_for_backward(query, total, query_grad)
        return products.highest + total.log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, total, query_grad = ctx.saved_tensors
        factor, item_grad = grad / ctx.tau, ctx.item_grad
        query_grad = query_grad * factor.unsqueeze(1)
        # a batch may have no rows, and no factor
        if item_grad is not None and (factor == factor[:1]).all():
            return query_grad, (item_grad * factor[:1].sum()).t(), None, None, None
        weighted = query * (factor / total).unsqueeze(1)
        item_grads = query.new_zeros(ctx.products.parts, *ctx.products.item_e.shape[::-1])

        def work(part: int) -> None:
            for rows, terms in ctx.products.blocks(part):
                item_grads[part].addmm_(weighted[rows].t(), terms)

        threads.run(work, ctx.products.parts)
        return query_grad, item_grads.sum(dim=0).t(), None, None, None
