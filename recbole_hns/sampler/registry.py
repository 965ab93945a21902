"""Samplers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from recbole_hns.registry import find_class, registered
from recbole_hns.sampler.base import HardNegativeSampler

#: Built-in and registered samplers by name.
SAMPLERS: dict[str, type[HardNegativeSampler]] = {}

SamplerClass = TypeVar("SamplerClass", bound="type[HardNegativeSampler]")


def register_sampler(name: str) -> Callable[[SamplerClass], SamplerClass]:
    """Class decorator that makes a sampler available as ``sampler: name``."""
    return registered(SAMPLERS, name)


def sampler_class(name: Any) -> type[HardNegativeSampler]:
    """The sampler that the config key ``sampler`` names.

    Args:
        name: a registered name, ``package.module:Class``, or a class.

    Raises:
        UserError: if there is no such sampler.
    """
    return find_class("sampler", name, SAMPLERS, HardNegativeSampler)
