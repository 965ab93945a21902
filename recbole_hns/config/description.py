"""What a run's log says of its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_hns.config.config import Config
from recbole_hns.config.keys import key_of

#: What is always said, in this order, before what differs from its default.
ALWAYS = ("model", "dataset", "sampler", "loss")


def in_short(config: Config) -> str:
    """What is trained, and the keys that differ from their defaults."""
    values = described(config)
    own = [
        key
        for part in (config.sampler, config.loss)
        for key, parameter in part.hyperparameters.items()
        if values[key] != parameter.default
    ]
    defaults = config.internal_config_dict
    given = [
        key
        for key in config.external_config_dict
        if key in values and not key_of(key).derived and values[key] != defaults.get(key)
        if key not in config.sampler.hyperparameters and key not in config.loss.hyperparameters
    ]
    return _lines(values, dict.fromkeys([*ALWAYS, *own, *given]))


def in_full(config: Config) -> str:
    """Every key."""
    values = described(config)
    return _lines(values, dict.fromkeys(values))


def described(config: Config) -> dict[str, Any]:
    """Keys and values, without those parts of ``eval_args`` that a ready split has no use for."""
    values = dict(config.final_config_dict)
    if values["benchmark_filename"] is not None:
        arguments = values["eval_args"]
        values["eval_args"] = {"mode": arguments["mode"]}
    return values


def _lines(values: Mapping[str, Any], keys: Mapping[str, Any]) -> str:
    return "\n".join(["config:", *(f"  {key} = {values[key]}" for key in keys)])
