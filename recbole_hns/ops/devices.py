"""What depends on the device that tensors are on, in one place.

Tests call the GPU's way on the CPU by having :func:`on_cpu` answer no.
"""

from __future__ import annotations

import torch
from torch import Tensor


def on_cpu(tensor: Tensor) -> bool:
    """Whether the CPU's way is taken: Numba's loops, SciPy's products, look-ups by bit mask."""
    return tensor.is_cpu


def by_kernel(tensor: Tensor) -> bool:
    """Whether Numba's loops take it: the CPU's, and of a type that NumPy has, unlike bfloat16."""
    return on_cpu(tensor) and tensor.dtype in (torch.float32, torch.float64)


def most_scored(tensor: Tensor) -> int:
    """Up to so many items, scoring all of them is faster than to propose and reject."""
    return 20_000 if on_cpu(tensor) else 100_000


def pairs_at_once(tensor: Tensor) -> int:
    """Scores in memory at a time: few for a CPU's cache, many to keep another device busy.

    Each of PyTorch's threads has a part of a block, and a core with a cache of its own.
    """
    return 2**18 * torch.get_num_threads() if on_cpu(tensor) else 2**24
