"""Sums over the parts of a batch that keep no part in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_hns.ops.tables import Table


class PartSums:
    """Sums over parts, differentiable, with each part's gradients taken when it is added.

    Args:
        tables: what the parts are computed from; they take :attr:`leaves` in their place.
        parameters: further parameters of the parts.
        num: how many sums.

    Attributes:
        leaves: tensors with the tables' values.
    """

    def __init__(self, tables: Sequence[Table], parameters: Iterable[Tensor], num: int = 1) -> None:
        self._tables, self._parameters = tables, list(parameters)
        self.leaves = [table.values.detach().requires_grad_() for table in tables]
        self._learnt = [*self.leaves, *self._parameters]
        self._gradients = [[torch.zeros_like(leaf) for leaf in self._learnt] for _ in range(num)]
        self._values = [torch.zeros_like(self.leaves[0][0, 0]) for _ in range(num)]

    def add(self, *parts: Tensor) -> None:
        """Add a part, a scalar, to each sum."""
        for number, part in enumerate(parts):
            more = number + 1 < len(parts)
            found = torch.autograd.grad(part, self._learnt, retain_graph=more, allow_unused=True)
            for gradient, share in zip(self._gradients[number], found, strict=True):
                if share is not None:
                    gradient += share
            self._values[number] += part.detach()

    def totals(self) -> list[Tensor]:
        """The sums, scalars, as functions of tables and parameters."""
        sources = [table.source for table in self._tables]
        return [
            _KnownGradient.apply(value, gradients, self._tables, *sources, *self._parameters)
            for value, gradients in zip(self._values, self._gradients, strict=True)
        ]


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient in tables and parameters is known beforehand."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: list[Tensor], tables: Sequence[Table], *inputs: Tensor
    ) -> Tensor:
        ctx.gradients, ctx.tables = gradients, tables
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = [grad * gradient for gradient in ctx.gradients]
        for number, table in enumerate(ctx.tables):
            if table.grad is not None:
                table.grad.add_(found[number])
                found[number] = None
        return None, None, None, *found
