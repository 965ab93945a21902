"""What a process knows where several train one model: its rank, its rows, and sums over all.

They are the processes of ``torch.distributed``'s default group, whoever launched them. Each draws
what one process would draw, from generators in the same state, keeps its own rows, and takes the
mean of all gradients: the figures are those of one process. Without a group, nothing here does
anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_hns.errors import JobError, UserError

T = TypeVar("T")

#: Numbers from which on a gradient is reduced where it is, not in one message with the other small.
LARGE = 2**14


def active() -> bool:
    """Whether this process is one of a group, of one or more."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def group_of_torchrun() -> Iterator[None]:
    """Within it, the processes that ``torchrun`` started are one group; nothing for others'.

    Raises:
        JobError: if another of them was lost meanwhile.
    """
    ours = not active() and of_torchrun()
    if ours:
        gpus = torch.cuda.is_available()
        if gpus:
            # before RecBole hides all but gpu_id, which comes too late to have an effect
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
            torch.cuda.init()
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not ours or not tells_of_loss(error):
            raise
        lost = "another worker was lost; --resume goes on after the last completed epoch"
        raise JobError(lost) from error
    finally:
        if ours:
            dist.destroy_process_group()


def of_torchrun() -> bool:
    """Whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def tells_of_loss(error: Exception) -> bool:
    """Whether an error is that another worker was lost."""
    # gloo's errors have no class of their own
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def number() -> int:
    """Number of workers."""
    return dist.get_world_size() if active() else 1


def rank() -> int:
    """Which worker this is, from 0."""
    return dist.get_rank() if active() else 0


def first() -> bool:
    """Whether this is the worker that writes files and speaks to the user."""
    return rank() == 0


def own_rows(user: Tensor, whole_users: bool = False) -> slice | Tensor:
    """The rows of this worker among those of all, as an index; none may be left to it.

    Args:
        user: the user of each row, ``[B]``, int64.
        whole_users: have all rows of a user at one worker.
    """
    start, end = (len(user) * each // number() for each in (rank(), rank() + 1))
    if not whole_users:
        return slice(start, end)
    order = user.argsort(stable=True)
    ascending = user[order]
    # from the first row of the user there
    start, end = (
        int(torch.searchsorted(ascending, ascending[each])) if each < len(user) else each
        for each in (start, end)
    )
    return order[start:end].sort().values


def summed(value: Tensor) -> Tensor:
    """The sum over all workers, differentiable where gradients are averaged afterwards."""
    return _Sum.apply(value) if active() else value


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * number()


def mean(value: Tensor) -> Tensor:
    """The mean over all workers, without gradient."""
    if not active():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / number()


def rows_of_all(ids: Tensor, num: int) -> Tensor:
    """The rows of a table that any worker names, ascending and each once.

    Args:
        ids: int64, of any shape.
        num: rows of the table; as many bytes are exchanged.
    """
    named = torch.zeros(num, dtype=torch.uint8, device=ids.device)
    named.index_fill_(0, ids.reshape(-1), 1)
    dist.all_reduce(named, dist.ReduceOp.MAX)
    return named.nonzero().squeeze(1)


def of_all(value: T) -> list[T]:
    """What each worker has, in the order of their ranks."""
    if not active():
        return [value]
    every: list[Any] = [None] * number()
    dist.all_gather_object(every, value)
    return every


def of_first(value: T) -> T:
    """What the first worker has."""
    if not active():
        return value
    one = [value]
    dist.broadcast_object_list(one)
    return one[0]


def average(
    parameters: Iterable[Tensor], touched_rows: Callable[[], Mapping[Tensor, Tensor]]
) -> None:
    """Have every gradient be the mean of all workers', the same to the last bit on each.

    Args:
        parameters: in the same order on all workers, the same ones with a gradient.
        touched_rows: gives the rows of tables that have a gradient at any of the workers, the same
            at all and each once; of a table that is not there, all may. These alone are exchanged.
    """
    if number() == 1:
        return
    touched = touched_rows()
    small: dict[torch.dtype, list[Tensor]] = {}
    pending, packed = [], []
    for parameter in parameters:
        grad = parameter.grad
        if grad is None:
            continue
        ids = touched.get(parameter)
        if ids is not None and len(ids) < len(grad):
            rows = grad.index_select(0, ids)
            packed.append((grad, ids, rows))
            grad = rows
        if grad.numel() < LARGE or not grad.is_contiguous():
            small.setdefault(grad.dtype, []).append(grad)
        else:
            pending.append((grad, dist.all_reduce(grad, async_op=True)))
    for several in small.values():
        together = torch.cat([grad.reshape(-1) for grad in several])
        dist.all_reduce(together)
        together /= number()
        for grad, part in zip(
            several, together.split([grad.numel() for grad in several]), strict=True
        ):
            grad.copy_(part.view_as(grad))
    for grad, work in pending:
        work.wait()
        grad /= number()
    for grad, ids, rows in packed:
        grad.index_copy_(0, ids, rows)


@contextmanager
def together(only_first: bool = False) -> Iterator[bool]:
    """A body whose ``UserError`` on one worker is raised on all, which wait for each other.

    Args:
        only_first: have the first do it, before the others do; they are told so, ``False``, and may
            then read what it wrote.

    Yields:
        Whether this is the first worker.

    Raises:
        UserError: the first worker's, or the other's that has one.
    """
    if not active():
        yield True
        return
    error: UserError | None = None
    if only_first and not first():
        _raise(of_all(None))
    try:
        yield first()
    except UserError as raised:
        error = raised
    if only_first and first():
        _raise(of_all(None if error is None else str(error)))
    _raise(of_all(None if error is None else str(error)))


def _raise(texts: list[str | None]) -> None:
    for text in texts:
        if text is not None:
            error = UserError(text)
            error.told, error.of_all = not first(), True
            raise error
