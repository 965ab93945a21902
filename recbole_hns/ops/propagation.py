"""Products with a graph model's fixed adjacency matrix, cheap in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_hns.ops import devices


class Rows(NamedTuple):
    """A sparse matrix by rows.

    Attributes:
        offset: where each row starts among the entries, and where the last ends, ``[rows + 1]``.
        column: of each entry.
        value: likewise.
        csr: the same as PyTorch has it, which a GPU multiplies by.
    """

    offset: Tensor
    column: Tensor
    value: Tensor
    csr: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Rows:
        """Those of a COO tensor."""
        csr = matrix.coalesce().to_sparse_csr()
        parts = csr.crow_indices(), csr.col_indices(), csr.values()
        if not devices.on_cpu(matrix) and len(parts[1]) < 2**31:
            # cuSPARSE's faster kernels
            short = parts[0].int(), parts[1].int(), parts[2]
            csr = torch.sparse_csr_tensor(*short, csr.shape, check_invariants=False)
        return cls(*parts, csr)


class Adjacency:
    """A sparse square matrix without gradient, for ``torch.sparse.mm(matrix, dense)``.

    RecBole keeps it as COO, of which a product takes eight times as long on the CPU as one by
    ``embedding_bag``, which is what a sum of weighted rows is; on a GPU each product sorts the
    entries anew; and the backward pass of a COO product transposes the matrix anew each time. Here
    the matrix is sorted and transposed once, and not even that where it is symmetric, as a
    normalised adjacency matrix is.

    Everything else that is done with it is done with the COO tensor.

    Args:
        matrix: COO, ``[nodes, nodes]``.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @cached_property
    def rows(self) -> Rows:
        """The matrix by rows."""
        return Rows.of(self.matrix)

    @cached_property
    def transposed_rows(self) -> Rows:
        """The transposed matrix by rows; the same tensors where it is the same matrix."""
        transposed = Rows.of(self.matrix.t())
        same = all(map(torch.equal, transposed[:3], self.rows[:3]))
        return self.rows if same else transposed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.matrix, name)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """What PyTorch calls in place of a function that is given an :class:`Adjacency`."""
        if function is torch.sparse.mm and isinstance(args[0], cls) and not kwargs:
            return _Product.apply(args[1], args[0])
        args = tuple(arg.matrix if isinstance(arg, cls) else arg for arg in args)
        return function(*args, **(kwargs or {}))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.adjacency = adjacency
        return _sum_rows(dense, adjacency.rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_rows(grad.contiguous(), ctx.adjacency.transposed_rows), None


def mean_of_layers(ego: Tensor, adjacency: Adjacency, n_layers: int) -> Tensor:
    """LightGCN's propagation, (E + A E + ... + A^L E) / (L + 1), in as few passes as can be.

    Args:
        ego: E, ``[nodes, dim]``.
        adjacency: A.
        n_layers: L, > 0.

    Returns:
        ``[nodes, dim]``.
    """
    return _MeanOfLayers.apply(ego, adjacency, n_layers)


class _MeanOfLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ego: Tensor, adjacency: Adjacency, n_layers: int) -> Tensor:
        ctx.adjacency, ctx.n_layers = adjacency, n_layers
        return _layers(ego, adjacency.rows, n_layers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _layers(grad.contiguous(), ctx.adjacency.transposed_rows, ctx.n_layers), None, None


def _layers(dense: Tensor, rows: Rows, n_layers: int) -> Tensor:
    # E + A (E + A (E + ...)) needs no sum beside the product
    total = dense
    for _ in range(n_layers):
        total = _sum_rows(total, rows).add_(dense)
    return total.div_(n_layers + 1)


class AllLayers:
    """LightGCN's layers, E, A E, ..., A^L E, each with a buffer for its gradient.

    Args:
        ego: E, ``[nodes, dim]``.
        adjacency: A; a COO tensor will do.
        grads: L + 1 buffers, ``[nodes, dim]``, of zeros, to which the layers' gradients are to be
            added in place.

    Attributes:
        layers: L + 1 tensors without gradient, ``[nodes, dim]``.
        source: a number that depends on ``ego``. What uses the layers has to depend on it, for its
            gradient, whatever that is, brings what ``grads`` hold back to ``ego``.
    """

    def __init__(self, ego: Tensor, adjacency: Adjacency | Tensor, grads: list[Tensor]) -> None:
        self.layers = [ego.detach()]
        for _ in grads[1:]:
            self.layers.append(_product(adjacency, self.layers[-1]))
        self.source = _FromLayers.apply(ego, adjacency, grads)


class _FromLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, ego: Tensor, adjacency: Adjacency | Tensor, grads: list[Tensor]
    ) -> Tensor:
        ctx.adjacency, ctx.grads = adjacency, grads
        return ego.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        *lower, total = ctx.grads
        for layer in reversed(lower):
            total = _product(ctx.adjacency, total, transposed=True).add_(layer)
        return total, None, None


def _product(adjacency: Adjacency | Tensor, dense: Tensor, transposed: bool = False) -> Tensor:
    if isinstance(adjacency, Adjacency):
        rows = adjacency.transposed_rows if transposed else adjacency.rows
        return _sum_rows(dense, rows)
    return torch.sparse.mm(adjacency.t() if transposed else adjacency, dense)


def _sum_rows(dense: Tensor, rows: Rows) -> Tensor:
    if not devices.on_cpu(dense):
        return torch.mm(rows.csr, dense)
    weight = rows.value
    return F.embedding_bag(
        rows.column, dense, rows.offset[:-1], mode="sum", per_sample_weights=weight
    )


@contextmanager
def adjacencies(model: nn.Module, known: dict[str, Adjacency]) -> Iterator[None]:
    """Have a model's adjacency matrices be :class:`Adjacency` for the time of the context.

    Args:
        model: a RecBole model; its attributes that are square COO tensors are meant.
        known: those of the calls before, by attribute; kept up to date here, as SGL makes new
            matrices every epoch.
    """
    matrices = {name: value for name, value in vars(model).items() if _is_adjacency(value)}
    for name, matrix in matrices.items():
        if name not in known or known[name].matrix is not matrix:
            known[name] = Adjacency(matrix)
        setattr(model, name, known[name])
    try:
        yield
    finally:
        for name, matrix in matrices.items():
            setattr(model, name, matrix)


def _is_adjacency(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.sparse_coo
        and value.dim() == 2
        and value.shape[0] == value.shape[1]
        and not value.requires_grad
    )
