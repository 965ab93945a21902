"""Checkpoints as plain data: tensors, numbers, strings, lists and dictionaries.

They load with ``torch.load(weights_only=True)``, so a checkpoint from somewhere else cannot run
code. A file that needs more than that is refused.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from recbole_hns.errors import UserError
from recbole_hns.files import replace_file

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender


def _no_tensors(value: Any) -> Any:
    """``value``, if it is made of lists, dictionaries, numbers and strings only."""
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = (*value, *value.values())
    elif isinstance(value, (list, tuple)):
        parts = value
    elif not isinstance(value, (int, float, str, type(None))):
        raise ValueError(f"must not be a {type(value).__name__}")
    for part in parts:
        _no_tensors(part)
    return value


#: pydantic takes a tensor of one number for a number.
NoTensors = BeforeValidator(_no_tensors)


class Last(BaseModel):
    """What a checkpoint holds of the last epoch, for a run to go on from."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    epoch: Annotated[int, NoTensors]
    state_dict: dict[str, Any]
    optimizer: dict[str, Any]
    sampler: dict[str, Any]
    loss: dict[str, Any]
    between_epochs: dict[str, Any]
    random: dict[str, Any]
    loader: torch.Tensor
    epochs: Annotated[list[dict[str, int | float | None]], NoTensors]


class Checkpoint(BaseModel):
    """What every checkpoint of a run holds; ``epoch`` and the parameters are the best epoch's."""

    model_config = ConfigDict(strict=True)

    format: Literal[2]
    config: Annotated[dict[str, Any], NoTensors]
    epoch: Annotated[int, NoTensors]
    cur_step: Annotated[int, NoTensors]
    best_valid_score: Annotated[float, NoTensors]
    best_valid_result: Annotated[dict[str, int | float] | None, NoTensors]
    state_dict: dict[str, Any]
    other_parameter: dict[str, Any]
    last: Last
    # of the data set; what was written before there was one has none
    tokens: str | None = None


#: Of this version's checkpoints. The former had no number, no loss and counted epochs from 0.
FORMAT = 2

NO_CHECKPOINT = "must be a checkpoint that recbole-hns wrote; this file is none"


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Replace the file at ``path`` by ``state``, which must be plain data, in one step."""
    replace_file(path, lambda file: torch.save(dict(state), file))


def load_checkpoint(
    path: str | os.PathLike[str], device: torch.device | str = "cpu", key: str = "resume"
) -> dict[str, Any]:
    """Read a checkpoint without being able to run code from it.

    Args:
        path: the file.
        device: where its tensors go; default the CPU.
        key: the config key that named the file, for the error message.

    Raises:
        UserError: if the file is missing, or is no checkpoint of this package's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused anyhow
            state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise UserError.of(
            key, path, f"must be a checkpoint file ({error.strerror or error})"
        ) from None
    except Exception:  # what a reader of arbitrary bytes raises is as arbitrary as they are
        raise UserError.of(key, path, NO_CHECKPOINT) from None
    try:
        state = _current(state)
        Checkpoint.model_validate(state)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError.of(key, path, f"{NO_CHECKPOINT} ({place}: {first['msg']})") from None
    return state


def _current(state: Any) -> Any:
    """A checkpoint of the former version as this one would have written it.

    Anything else is returned as it is, for the schema to refuse.
    """
    if not isinstance(state, dict) or "format" in state or not isinstance(state.get("last"), dict):
        return state
    last = {**state["last"], "loss": {}}
    with suppress(TypeError, KeyError):
        last["epochs"] = [{**entry, "epoch": entry["epoch"] + 1} for entry in last["epochs"]]
    return {**state, "format": FORMAT, "last": last}


#: What restoring from a checkpoint raises if it is of something else.
DOES_NOT_FIT = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_best(model: AbstractRecommender, state: Mapping[str, Any]) -> None:
    """Give a model the parameters of the best epoch of a checkpoint.

    Raises:
        KeyError, RuntimeError, TypeError: if they are not those of such a model.
    """
    model.load_state_dict(state["state_dict"])
    # they become attributes, of which the file must not choose the names
    unknown = set(state["other_parameter"]) - set(model.other_parameter())
    if unknown:
        raise KeyError(f"other_parameter holds {', '.join(sorted(unknown))}")
    model.load_other_parameter(state["other_parameter"])


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """``optimizer.load_state_dict`` that refuses a state from which no step could be made.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: if it is not one of such an optimizer.
    """
    settings = _setting_types(optimizer)
    optimizer.load_state_dict(dict(state))
    if _setting_types(optimizer) != settings:
        raise TypeError("its optimizer has other settings")
    # what a step leaves for a parameter of this one
    example = torch.nn.Parameter(torch.zeros(1))
    example.grad = torch.zeros(1)
    fresh: Any = type(optimizer)
    fresh = fresh([example], lr=0.1)
    fresh.step()
    left = {k: v for k, v in fresh.state[example].items() if isinstance(v, torch.Tensor)}
    for parameter, own in optimizer.state.items():
        expected = {
            key: (parameter.shape, parameter.dtype) if value.dim() else (value.shape, value.dtype)
            for key, value in left.items()
        }
        if {key: (value.shape, value.dtype) for key, value in own.items()} != expected:
            raise TypeError("its optimizer has another state")


def _setting_types(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {
            key: tuple(map(type, value)) if isinstance(value, tuple) else type(value)
            for key, value in group.items()
        }
        for group in optimizer.param_groups
    ]


def random_state() -> dict[str, Any]:
    """The state of every global random generator a run draws from, as plain data."""
    legacy: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = legacy
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set every global random generator to what :func:`random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
