"""Compiled loops on several threads: those of PyTorch's own pool.

A second pool would fight with the first for the processor, as PyTorch's threads go on spinning for
milliseconds after an operation. So parts of a loop are handed to GNU OpenMP in the way that
compiled code does it; where PyTorch has another pool, loops run on one thread.

A loop is divided by what it writes, so that the order of all sums, and with it the result, is the
same on any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

#: Rows of a table, looked up at random, below which a loop over them is not divided: to hand a part
#: over takes a tenth of a millisecond, in which two thousand of them are read and written.
FEW_ROWS = 2**13

#: What loops over plain numbers take for a row.
NUMBERS = 64

_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _pool() -> Callable[..., object] | None:
    """What runs a function on all threads of PyTorch's pool and waits for them."""
    try:
        # looked for among what PyTorch was linked with
        run: Any = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    run.argtypes = [_Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    run.restype = None
    return run


def number() -> int:
    """Threads that loops run on, ``torch.get_num_threads()`` where they can."""
    num = torch.get_num_threads()
    return num if num > 1 and _pool() is not None else 1


def parts(rows: int) -> int:
    """Parts that a loop over so many rows of a table is worth dividing into."""
    return number() if rows >= FEW_ROWS else 1


def run(work: Callable[[int], object], num: int) -> None:
    """Call ``work`` with each of the numbers below ``num``, on all threads, without gradient.

    Raises:
        BaseException: what one of the calls raised.
    """
    if num <= 1:
        with torch.no_grad():
            for part in range(num):
                work(part)
        return
    pool = _pool()
    assert pool is not None
    todo, errors = iter(range(num)), []

    def take(_: object) -> None:
        try:
            # a thread has a setting of its own
            with torch.no_grad():
                # each number is given out once, under Python's lock
                for part in todo:
                    work(part)
        except BaseException as error:
            errors.append(error)

    pool(_Region(take), None, min(num, number()), 0)
    if errors:
        raise errors[0]


def over_rows(
    kernel: Callable[..., object], rows: int, *arrays: Any, whole: Sequence[Any] = ()
) -> None:
    """Call a loop of which each row of ``arrays`` is an own matter, on parts of these rows.

    Args:
        kernel: called with parts of the arrays, then with all of ``whole``.
        rows: what it is worth, as :func:`parts` takes it.
        arrays: of one length.
        whole: see there.
    """
    length = len(arrays[0])
    num = min(parts(rows), max(length, 1))
    if num == 1:
        kernel(*arrays, *whole)
        return
    bounds = [length * part // num for part in range(num + 1)]

    def work(part: int) -> None:
        start, end = bounds[part : part + 2]
        kernel(*(array[start:end] for array in arrays), *whole)

    run(work, num)


def in_shares(rows: int, *loops: Callable[[int, int], object]) -> None:
    """Call loops that take their share of what is written, given ``part`` and ``parts``.

    A share is the same in each of them, so that one may write what the next reads.

    Args:
        rows: what they are worth together, as :func:`parts` takes it.
        loops: see there.
    """
    num = parts(rows)
    if num == 1:
        for loop in loops:
            loop(0, 1)
        return

    def work(part: int) -> None:
        for loop in loops:
            loop(part, num)

    run(work, num)
