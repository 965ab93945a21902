"""The state of an optimizer from a file, of which PyTorch checks the number of tensors only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recbole_hns.ops.row_optimizers import RowwiseAdagrad


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """``optimizer.load_state_dict`` that refuses a state from which no step could be made.

    A step's compiled loop takes it that the tensors lie in memory as their parameter does. The
    settings have to be the optimizer's own, which keeps its learning rate.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: if it is not one of such an optimizer.
    """
    settings, rates = _settings(optimizer), [group["lr"] for group in optimizer.param_groups]
    order = _order(optimizer.state_dict())
    optimizer.load_state_dict(dict(state))
    if _settings(optimizer) != settings or _order(state) != order:
        raise TypeError("its optimizer has other settings")
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    # what a step leaves for a parameter of this one
    example = torch.nn.Parameter(torch.zeros(1))
    example.grad = torch.zeros(1)
    fresh: Any = type(optimizer)
    fresh = fresh([example], lr=0.1)
    fresh.step()
    left = {k: v for k, v in fresh.state[example].items() if isinstance(v, torch.Tensor)}
    counts = [key for key, value in left.items() if not value.dim()]
    for parameter, own in optimizer.state.items():
        shape, stride = parameter.shape, parameter.stride()
        if isinstance(optimizer, RowwiseAdagrad) and optimizer.has_row_state(parameter):
            shape, stride = parameter.shape[:1], (1,)
        expected = {
            key: (shape, stride, parameter.dtype) if value.dim() else (value.shape, (), value.dtype)
            for key, value in left.items()
        }
        if {key: (v.shape, v.stride(), v.dtype) for key, v in own.items()} != expected:
            raise TypeError("its optimizer has another state")
        if not all(0 <= own[key].item() < 2**53 for key in counts):
            raise ValueError("its optimizer has made an impossible number of steps")


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Types and values of what was set, by group, without the learning rate, which decays."""
    return [
        {key: (type(value), value) for key, value in group.items() if key not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _order(state: Mapping[str, Any]) -> list[Any]:
    """The numbers that parameters have in a state, by group."""
    return [group["params"] for group in state["param_groups"]]
