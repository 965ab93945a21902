"""Lists of samplers with settings, as commands that take several samplers are given them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from recbole_hns.config.yaml_files import literal
from recbole_hns.errors import UserError

if TYPE_CHECKING:
    from recbole_hns.sampler.base import HardNegativeSampler

#: Between specs and between their keys: spaces and commas, those inside brackets excepted.
PIECE = re.compile(r"(?:\[[^\]]*\]|[^\s,\[])+")


def parse_specs(option: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and keys of specs, ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE``, in their order.

    Specs are separated by spaces or commas. ``package.module:Class`` is a name too.

    Raises:
        UserError: for a key without a name before it, or without a value.
    """
    specs: list[tuple[str, dict[str, Any]]] = []
    for piece in PIECE.findall(text):
        start, equals, value = piece.partition("=")
        key = start
        if not equals:
            specs.append((piece, {}))
            continue
        if ":" in start:
            name, _, key = start.rpartition(":")
            specs.append((name, {}))
        if not (specs and specs[-1][0] and key and value):
            raise UserError.of(option, text, f"{piece} must be NAME:KEY=VALUE or KEY=VALUE")
        specs[-1][1][key] = literal(value)
    return specs


def without_fixed(values: Mapping[str, Any], cls: type[HardNegativeSampler]) -> dict[str, Any]:
    """``values`` without the keys that a sampler has but leaves no choice in."""
    return {key: value for key, value in values.items() if not is_fixed(cls, key)}


def is_fixed(cls: type[HardNegativeSampler], key: str) -> bool:
    """Whether ``key`` is the sampler's but has only one value."""
    if key not in cls.hyperparameters:
        return False
    annotation = cls.hyperparameters[key].field.annotation
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1
