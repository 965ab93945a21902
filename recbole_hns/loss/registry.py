"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from recbole_hns.loss.base import Loss
from recbole_hns.registry import find_class, registered

#: Built-in and registered losses by name.
LOSSES: dict[str, type[Loss]] = {}

LossClass = TypeVar("LossClass", bound="type[Loss]")


def register_loss(name: str) -> Callable[[LossClass], LossClass]:
    """Class decorator that makes a loss available as ``loss: name``."""
    return registered(LOSSES, name)


def loss_class(name: Any) -> type[Loss]:
    """The loss that the config key ``loss`` names.

    Args:
        name: a registered name, ``package.module:Class``, or a class.

    Raises:
        UserError: if there is no such loss.
    """
    return find_class("loss", name, LOSSES, Loss)
