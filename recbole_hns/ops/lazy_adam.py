"""Adam whose tables wait: a row gets the steps in which it had no gradient when it is next read.

Dense Adam moves every row in every step, as its momentum goes on without a gradient, which is most
of an epoch where tables are large beside a batch. A row that is not read need not move yet. Without
a gradient, n steps after step s its moments are ``beta1**n * m`` and ``beta2**n * v``, and it has
moved by

    m * sum_j c_j / (a_j * sqrt(v) + eps),  c_j = lr * beta1**j / (1 - beta1**(s + j)),
                                            a_j = (beta2**j / (1 - beta2**(s + j)))**0.5,

j from 1 to n. The weights c_j fall by beta1 a step, so that a_j hardly changes where they count,
and an expansion around their mean A to the second order, with C their sum and V their variance,

    m * C / (A * sqrt(v) + eps) * (1 + V * v / (A * sqrt(v) + eps)**2),

is the sum to 1e-6 of it, for any v, once bias correction changes slowly, after 1 / (1 - beta2)
steps. C, A and V depend on the last step of a row alone. Before, the terms of the sum are taken one
by one, which is still faster than to have every row from memory in every step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hns.ops import devices, kernels
from recbole_hns.ops.row_optimizers import (
    Loop,
    Touched,
    gradients_of_tables,
    in_shares,
    loop_over,
    step_of_others,
)

#: Rows that are read, as a part of a table, from which on a dense step is the faster one.
MANY = 0.25


class LazyAdam(torch.optim.Adam):
    """``torch.optim.Adam`` to 1e-5, at the cost of the rows that are read.

    Only on the CPU and without weight decay; elsewhere, in the first step of all, and where it is
    not known which rows have a gradient, a step is dense. The state is that of
    ``torch.optim.Adam``.

    Args:
        params: all parameters or their groups.
        lr: the learning rate.
        tables: those of the parameters that are tables, ``[rows, dim]``.
        touched: asked in every step.
    """

    def __init__(
        self, params: Any, lr: float, tables: Collection[Tensor] = (), touched: Touched = dict
    ) -> None:
        super().__init__(params, lr=lr)
        self._touched = touched
        self._waiting = {table: _Waiting() for table in tables}

    def read(self, table: Tensor, ids: Tensor | None = None) -> None:
        """Have rows of a table as dense Adam would have them.

        Args:
            table: one of the tables; others are as they are.
            ids: the rows, int64, of any shape; None for all.
        """
        waiting = self._waiting.get(table)
        if waiting is not None:
            # asked for, a state that is not there would be made
            state = self.state.get(table, {})
            if ids is None or ids.numel() >= MANY * len(table):
                waiting.read_all(table, state)
            else:
                waiting.read(table, state, ids.reshape(-1))

    def read_all(self) -> None:
        """Have all tables as dense Adam would have them."""
        for table, waiting in self._waiting.items():
            self.read(table)
            waiting.was_read_whole = False

    def load_state_dict(self, state_dict: Any) -> None:
        """Take a state, which is one of all steps; those that rows of before lack are forgotten."""
        super().load_state_dict(state_dict)
        for table in self._waiting:
            self._waiting[table] = _Waiting()

    def __getstate__(self) -> dict[str, Any]:
        own = {"_touched": self._touched, "_waiting": self._waiting}
        return {**super().__getstate__(), **own}

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make a step."""
        lazy: list[Tensor] = []
        loops: list[Loop] = []
        for table, grad, group, ids in gradients_of_tables(self, self._waiting, self._touched()):
            waiting, state = self._waiting[table], self.state.get(table, {})
            if ids is not None and not waiting.was_read_whole and _may_wait(table, group, state):
                loops += waiting.step(table, grad, group, state, ids)
                lazy.append(table)
            else:
                waiting.read_all(table, state)
            waiting.was_read_whole = False
        in_shares(loops)
        step_of_others(super().step, lazy)


def _may_wait(table: Tensor, group: dict[str, Any], state: dict[str, Any]) -> bool:
    return devices.by_kernel(table) and not group["weight_decay"] and bool(state)


class _Waiting:
    """The steps that rows of a table have not had, from the time when all had had all.

    Attributes:
        was_read_whole: whether all rows were read since the last step.
    """

    def __init__(self) -> None:
        self.was_read_whole = False
        self._count = 0  # steps since then
        self._last: np.ndarray[Any, Any] | None = None  # of each row, the last it had
        # of each step: sums over later ones of c, c a and c a**2
        self._sums = np.zeros((3, kernels.MEMORY))
        # of each step: rate and root of its bias correction
        self._steps = np.zeros((2, kernels.MEMORY))
        self._factors: np.ndarray[Any, Any] | None = None
        self._group: dict[str, Any] = {}

    def read_all(self, table: Tensor, state: dict[str, Any]) -> None:
        """Give all rows the steps they lack."""
        self.was_read_whole = True
        if self._count:
            self.read(table, state, torch.arange(len(table)))
            self._count = 0

    def read(self, table: Tensor, state: dict[str, Any], ids: Tensor) -> None:
        """Give rows the steps they lack, ids, ``[N]``, int64."""
        if self._count:
            in_shares(self._catch_up(table, state, ids))

    def _catch_up(self, table: Tensor, state: dict[str, Any], ids: Tensor) -> list[Loop]:
        if not self._count:
            return []
        betas = self._group["betas"]
        early = 1 / (1 - betas[1]) - (state["step"].item() - self._count)
        rest = self._last, self._count, self._sums, self._steps, early, *betas, self._group["eps"]
        loop = loop_over(ids, kernels.catch_up, (table, *_moments(state)), (), *rest)
        # a root and a division for each number take some four times as long as to read a row
        return [loop._replace(rows=4 * len(ids))]

    def step(
        self,
        table: Tensor,
        grad: Tensor,
        group: dict[str, Any],
        state: dict[str, Any],
        ids: Tensor,
    ) -> list[Loop]:
        """What makes a step of the rows ``ids``, ``[N]``, int64; the others wait."""
        if self._last is None:
            self._last = np.zeros(len(table), dtype=np.int32)
        if not self._count:
            self._last.fill(0)
            self._sums[:] = 0
            self._factors = None
        self._group = group
        loops = self._catch_up(table, state, ids)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        count = state["step"].item()
        correction = 1 - beta2**count
        rate = group["lr"] / (1 - beta1**count)
        self._count += 1
        self._add_step(rate, correction, beta1, beta2)
        tensors = table, grad, *_moments(state)
        numbers = rate, correction**-0.5, 1 - beta1, 1 - beta2, group["eps"]
        own = loop_over(ids, kernels.adam_rows, tensors, numbers, self._last, self._count)
        return [*loops, own]

    def _add_step(self, rate: float, correction: float, beta1: float, beta2: float) -> None:
        """Count a step in the sums of all steps before it."""
        if self._factors is None:
            steps = np.arange(kernels.MEMORY, 0, -1)
            # by which c and a fall
            self._factors = np.stack([(beta1 * beta2 ** (n / 2)) ** steps for n in range(3)])
        # what the loops catch up with is the sums before
        if self._count > self._sums.shape[1]:
            self._sums, self._steps = (
                np.concatenate([each, np.zeros_like(each)], axis=1)
                for each in (self._sums, self._steps)
            )
        self._steps[:, self._count - 1] = rate, correction**-0.5
        first = max(self._count - kernels.MEMORY, 0)
        weights = rate * correction ** (-np.arange(3) / 2)
        factors = self._factors[:, first - self._count :]
        self._sums[:, first : self._count] += weights[:, np.newaxis] * factors


def _moments(state: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return state["exp_avg"], state["exp_avg_sq"]
