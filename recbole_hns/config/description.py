"""What a run's log says of its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_hns.config.config import Config
from recbole_hns.config.keys import key_of

#: What is always said, in this order, before the sampler's and the loss's own keys.
ALWAYS = (
    "model",
    "dataset",
    "sampler",
    "loss",
    "similarity",
    "eval_similarity",
    "protocol",
    "seed",
)


def in_short(config: Config) -> str:
    """The axes with their hyperparameters, and what was given that is no default."""
    values = described(config)
    own = [*config.sampler.hyperparameters, *config.loss.hyperparameters]
    defaults = config.internal_config_dict
    given = [
        key
        for key in config.external_config_dict
        if key in values and not key_of(key).derived and values[key] != defaults.get(key)
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
