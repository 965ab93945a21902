"""Checkpoints as plain data: tensors, numbers, strings, lists and dictionaries.

They load with ``torch.load(weights_only=True)``, so a checkpoint from somewhere else cannot run
code. A file that needs more than that is refused, and so is one whose checksums do not agree or
whose values native code would go astray with: PyTorch, NumPy and compiled loops check little of
what they are given.
"""

from __future__ import annotations

import math
import os
import random
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from recbole_hns.errors import UserError
from recbole_hns.files import replace_file
from recbole_hns.results import Epoch, finite

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


def _no_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number")
    return value


def _recorded(entry: dict[str, Any]) -> dict[str, Any]:
    """An epoch's record, if a result file can hold it."""
    Epoch.model_validate(finite(entry))
    return entry


def _plain_tensors(value: Any) -> Any:
    """``value``, unless a tensor in it is nested or quantised: their inner tables are unchecked."""
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif isinstance(value, torch.Tensor) and (value.is_nested or value.is_quantized):
        raise ValueError("must be a plain tensor")
    for part in parts:
        _plain_tensors(part)
    return value


#: A number of epochs, and the index of one.
Count = Annotated[int, NoTensors, Field(ge=0, lt=2**53)]


class Last(BaseModel):
    """What a checkpoint holds of the last epoch, for a run to go on from."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    epoch: Count
    state_dict: dict[str, Any]
    optimizer: dict[str, Any]
    sampler: dict[str, Any]
    loss: dict[str, Any]
    between_epochs: dict[str, Any]
    random: dict[str, Any]
    loader: torch.Tensor
    epochs: Annotated[
        list[Annotated[dict[str, int | float | None], AfterValidator(_recorded)]], NoTensors
    ]

    @model_validator(mode="after")
    def _every_epoch(self) -> Last:
        numbers = [entry["epoch"] for entry in self.epochs]
        if self.epoch + 1 != len(numbers) or numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("its records are not those of every epoch up to the last")
        return self


class Checkpoint(BaseModel):
    """What every checkpoint of a run holds; ``epoch`` and the parameters are the best epoch's."""

    model_config = ConfigDict(strict=True)

    format: Literal[2]
    config: Annotated[dict[str, Any], NoTensors]
    epoch: Annotated[int, NoTensors, Field(ge=-1)]
    cur_step: Count
    best_valid_score: Annotated[float, NoTensors, AfterValidator(_no_nan)]
    best_valid_result: Annotated[dict[str, int | float] | None, NoTensors]
    state_dict: dict[str, Any]
    other_parameter: dict[str, Any]
    last: Last
    # of the data set; what was written before there was one has none
    tokens: str | None = None

    @model_validator(mode="after")
    def _best_before_last(self) -> Checkpoint:
        if self.epoch > self.last.epoch:
            raise ValueError("its best epoch is later than its last")
        return self


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
        UserError: if the file is missing, damaged, or no checkpoint of this package's.
    """
    check_archive(path, key)
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
        _plain_tensors(state)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError.of(key, path, f"{NO_CHECKPOINT} ({place}: {first['msg']})") from None
    except (RecursionError, ValueError) as error:
        raise UserError.of(key, path, f"{NO_CHECKPOINT} ({error})") from None
    return state


def check_archive(path: str | os.PathLike[str], key: str = "resume") -> None:
    """See that every record of a checkpoint is as it was written, by the archive's checksums.

    PyTorch writes them and reads without them. They are read here at the speed of the disk, some
    0.9 s a GiB once the file is in memory, and loading it, which follows, finds it there.

    Args:
        path: the file.
        key: the config key that named the file, for the error message.

    Raises:
        UserError: if the file is missing, damaged, or no archive of PyTorch's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # PyTorch finds the first of one name, in any case, and the checksums are of the last
            names = {entry.filename.lower() for entry in entries}
            packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed or len(names) < len(entries):
                raise UserError.of(key, path, NO_CHECKPOINT)
            damaged = archive.testzip()
    except UserError:
        raise
    except OSError as error:
        raise UserError.of(
            key, path, f"must be a checkpoint file ({error.strerror or error})"
        ) from None
    except Exception:  # as arbitrary as the bytes it reads
        raise UserError.of(key, path, NO_CHECKPOINT) from None
    if damaged is not None:
        allowed = f"is damaged: the checksum of its record {damaged} is not that of its content"
        raise UserError.of(key, path, allowed)


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
    AssertionError,
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
    other = state["other_parameter"]
    unknown = set(other) - set(model.other_parameter())
    if unknown:
        raise KeyError(f"other_parameter holds {', '.join(sorted(map(str, unknown)))}")
    # a graph model's embeddings of all users and items, kept for evaluation
    for name, size in (("restore_user_e", "n_users"), ("restore_item_e", "n_items")):
        table = other.get(name)
        if table is not None and table.shape[:1] != (getattr(model, size),):
            raise ValueError(f"{name} is of {len(table)}, {size} is {getattr(model, size)}")
    model.load_other_parameter(other)


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
    """Set every global random generator to what :func:`random_state` returned.

    Raises:
        ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError: if that is
            no such state. The generators read tables of numbers at a position that their own
            checks leave to who sets it.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    if not 0 <= position <= len(keys):
        raise ValueError(f"NumPy's generator cannot be at {position} of {len(keys)}")
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(checked_generator_state(state["torch"]))
    # whatever a generator has cut off or converted is not what a generator was in
    set_now = random_state()
    same = set_now["python"] == (version, tuple(internal), gauss)
    same &= set_now["numpy"][2:] == (position, has_gauss, cached)
    if not (same and torch.equal(set_now["numpy"][1], keys.cpu())):
        raise ValueError("its random generators were never in such a state")
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])


def checked_generator_state(state: torch.Tensor) -> torch.Tensor:
    """The state of a PyTorch generator on the CPU, if one could be in it.

    Raises:
        RuntimeError, TypeError, ValueError: if not.
    """
    state = state.cpu()
    generator = torch.Generator()
    generator.set_state(state)  # checks type and size
    # after the seed, how many of its 624 numbers are left, whether it was seeded, the next one
    left, _, following = struct.unpack_from("=iiQ", state.numpy().tobytes(), 8)
    if not (left > 0 and left + following <= 625 and torch.equal(generator.get_state(), state)):
        raise ValueError("its random generators were never in such a state")
    return state
