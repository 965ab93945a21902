"""Optimisers that change the rows of embedding tables that have a gradient, and no others.

A row has one if a number of it is not 0. Parameters that are no tables have the dense optimiser
that a class here derives from, at the same learning rate. Tables have their state under the same
names as the others, so that checkpoints are written and checked as those of PyTorch's optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels, threads

#: Rows of each table that may have a gradient; of a table that is not there, all may.
Touched = Callable[[], Mapping[Tensor, Tensor]]


class SparseAdam(torch.optim.Adam):
    """Adam by the formulas of ``torch.optim.SparseAdam``, from gradients that are not sparse.

    A row's moments change only in steps in which it has a gradient; the bias correction is by the
    number of all steps.

    Args:
        params: all parameters or their groups.
        lr: the learning rate.
        tables: those of the parameters that are tables, ``[rows, dim]``.
        touched: asked in every step.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        tables: Collection[Tensor] = (),
        touched: Touched = dict,
    ) -> None:
        super().__init__(params, lr=lr)
        self._rows = _Rows(tables, touched)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make a step."""
        loops = []
        for table, grad, group, ids in self._rows.of(self):
            state = self.state[table]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(table, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(table, memory_format=torch.preserve_format)
            state["step"] += 1
            count = state["step"].item()
            beta1, beta2 = group["betas"]
            rate = group["lr"] * (1 - beta2**count) ** 0.5 / (1 - beta1**count)
            tensors = table.detach(), grad, state["exp_avg"], state["exp_avg_sq"]
            # taken from 1 here, as the loops' type would leave four digits of it
            numbers = rate, 1 - beta1, 1 - beta2, group["eps"]
            if devices.by_kernel(table):
                loops.append(self._rows.loop(kernels.sparse_adam, table, tensors, numbers, ids))
            else:
                _sparse_adam(*tensors, *numbers, ids)
        in_shares(loops)
        step_of_others(super().step, self._rows.tables)


class RowwiseAdagrad(torch.optim.Adagrad):
    """Adagrad with one number of state a row: the sum of its gradients' mean squares.

    ``state += mean(g**2); row -= lr * g / (sqrt(state) + eps)``.

    Args:
        params: all parameters or their groups.
        lr: the learning rate.
        tables: those of the parameters that are tables, ``[rows, dim]``.
        touched: asked in every step.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        tables: Collection[Tensor] = (),
        touched: Touched = dict,
    ) -> None:
        super().__init__(params, lr=lr)
        self._rows = _Rows(tables, touched)
        for table in tables:
            self.state[table]["sum"] = table.detach().new_zeros(len(table))

    def has_row_state(self, parameter: Tensor) -> bool:
        """Whether a parameter's state is one number a row."""
        return parameter in self._rows.tables

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make a step."""
        loops = []
        for table, grad, group, ids in self._rows.of(self):
            state = self.state[table]
            state["step"] += 1
            tensors = table.detach(), grad, state["sum"]
            numbers = group["lr"], group["eps"]
            if devices.by_kernel(table):
                loops.append(self._rows.loop(kernels.rowwise_adagrad, table, tensors, numbers, ids))
            else:
                _rowwise_adagrad(*tensors, *numbers, ids)
        in_shares(loops)
        step_of_others(super().step, self._rows.tables)


#: By the name that ``learner`` gives them.
ROW_OPTIMIZERS = {"sparse_adam": SparseAdam, "rowwise_adagrad": RowwiseAdagrad}


class _Rows:
    """The tables of an optimiser and which of their rows a step changes."""

    def __init__(self, tables: Collection[Tensor], touched: Touched) -> None:
        self.tables = dict.fromkeys(tables)
        self._touched = touched
        self._seen: dict[Tensor, Tensor] = {}

    def of(
        self, optimizer: torch.optim.Optimizer
    ) -> list[tuple[Tensor, Tensor, dict[str, Any], Tensor]]:
        """Each table with a gradient, this, its group and the rows that may have one."""
        found = []
        for table, grad, group, ids in gradients_of_tables(optimizer, self.tables, self._touched()):
            if ids is None:
                ids = torch.arange(len(table), device=table.device)
            found.append((table, grad, group, ids))
        return found

    def loop(
        self,
        kernel: Callable[..., None],
        table: Tensor,
        tensors: tuple[Any, ...],
        numbers: tuple[float, ...],
        ids: Tensor,
    ) -> Loop:
        """A compiled loop, to be called."""
        if table not in self._seen:
            self._seen[table] = torch.zeros(len(table), dtype=torch.bool)
        return loop_over(ids, kernel, tensors, numbers, self._seen[table].numpy())


class Loop(NamedTuple):
    """A compiled loop over rows, which takes its share of them.

    Attributes:
        rows: what it is worth, as :func:`recbole_hns.ops.threads.parts` takes it.
        call: called with ``part`` and ``parts``.
    """

    rows: int
    call: Callable[[int, int], object]


def loop_over(
    ids: Tensor,
    kernel: Callable[..., None],
    tensors: Iterable[Tensor],
    numbers: Iterable[float],
    *others: Any,
) -> Loop:
    """A compiled loop of tensors of one type, numbers, rows and what else it takes."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    # numbers of a longer type would have the loop compute in it
    numbers = map(arrays[0].dtype.type, numbers)
    return Loop(len(ids), partial(kernel, *arrays, *numbers, ids.numpy(), *others))


def in_shares(loops: Sequence[Loop]) -> None:
    """Call loops one after another, on several threads where they are long enough together."""
    threads.in_shares(sum(loop.rows for loop in loops), *(loop.call for loop in loops))


def gradients_of_tables(
    optimizer: torch.optim.Optimizer,
    tables: Collection[Tensor],
    touched: Mapping[Tensor, Tensor],
) -> list[tuple[Tensor, Tensor, dict[str, Any], Tensor | None]]:
    """Each table with a gradient, this, its group and the rows that may have one, None for all."""
    found = []
    for group in optimizer.param_groups:
        for table in group["params"]:
            if table in tables and table.grad is not None:
                ids = touched.get(table)
                if ids is not None and len(ids) > len(table):
                    ids = None
                found.append((table, table.grad, group, ids))
    return found


def step_of_others(step: Callable[[], object], tables: Collection[Tensor]) -> None:
    """Make a dense optimiser's step, in which a parameter without gradient has no part."""
    kept = {table: table.grad for table in tables}
    for table in kept:
        table.grad = None
    step()
    for table, grad in kept.items():
        table.grad = grad


def _sparse_adam(
    table: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    rate: float,
    rest1: float,
    rest2: float,
    eps: float,
    ids: Tensor,
) -> None:
    """As the compiled loop; without waiting for the device, so that all of ``ids`` are written.

    A row that is there twice is written twice with the same numbers.
    """
    g = grad.index_select(0, ids)
    has = (g != 0).any(dim=1, keepdim=True)
    old = [tensor.index_select(0, ids) for tensor in (table, first, second)]
    m = old[1].lerp(g, rest1)
    v = old[2].lerp(g * g, rest2)
    new = old[0] - rate * m / (v.sqrt() + eps), m, v
    for tensor, before, after in zip((table, first, second), old, new, strict=True):
        tensor.index_copy_(0, ids, torch.where(has, after, before))


def _rowwise_adagrad(
    table: Tensor, grad: Tensor, total: Tensor, rate: float, eps: float, ids: Tensor
) -> None:
    """As the compiled loop, and as :func:`_sparse_adam`; no gradient changes nothing."""
    g = grad.index_select(0, ids)
    sums = total.index_select(0, ids) + g.square().mean(dim=1)
    rows = table.index_select(0, ids) - rate * g / (sums.sqrt() + eps).unsqueeze(1)
    total.index_copy_(0, ids, sums)
    table.index_copy_(0, ids, rows)
