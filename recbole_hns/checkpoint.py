"""Checkpoints as plain data: tensors, numbers, strings, lists and dictionaries.

They load with ``torch.load(weights_only=True)``, so a checkpoint from somewhere else cannot run
code. A file that needs more than that is refused.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.utils import set_color
from scipy import sparse

from recbole_hns.errors import UserError
from recbole_hns.files import replace_file

if TYPE_CHECKING:
    from recbole.trainer import Trainer


def plain(value: Any) -> Any:
    """``value`` with NumPy scalars, enums, devices and the like as Python's plain types."""
    # an exact type: np.float64 is a float, and some enums are strings
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value)


#: What every checkpoint of a run has.
CHECKPOINT = ("config", "epoch", "state_dict", "other_parameter", "last")


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
        state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise UserError.of(
            key, path, f"must be a checkpoint file ({error.strerror or error})"
        ) from None
    except Exception:  # what a reader of arbitrary bytes raises is as arbitrary as they are
        state = None
    if not isinstance(state, dict) or not set(CHECKPOINT).issubset(state):
        raise UserError.of(
            key, path, "must be a checkpoint that recbole-hns wrote; this file is none"
        )
    return state


def save_recbole_checkpoint(
    self: Trainer, epoch: int, verbose: bool = True, saved_model_file: str | None = None
) -> None:
    """``Trainer._save_checkpoint`` of RecBole with the config as a plain dictionary."""
    if not self.config["single_spec"] and self.config["local_rank"] != 0:
        return
    path = saved_model_file or self.saved_model_file
    state = {
        "config": plain(self.config.final_config_dict),
        "epoch": epoch,
        "cur_step": self.cur_step,
        "best_valid_score": float(self.best_valid_score),
        "state_dict": self.model.state_dict(),
        "other_parameter": {k: encoded(v) for k, v in self.model.other_parameter().items()},
        "optimizer": self.optimizer.state_dict(),
    }
    save_checkpoint(state, path)
    if verbose:
        self.logger.info(set_color("Saving current", "blue") + f": {path}")


def encoded(value: Any) -> Any:
    """A NumPy array or SciPy sparse matrix as tensors, anything else as it is.

    RecBole's traditional models, such as EASE and ItemKNN, keep what they learn in these.
    """
    if isinstance(value, np.ndarray):
        return {"encoded": "array", "array": torch.from_numpy(np.ascontiguousarray(value))}
    if sparse.issparse(value):
        csr = value.tocsr()
        parts = {key: torch.from_numpy(getattr(csr, key)) for key in ("data", "indices", "indptr")}
        return {"encoded": "sparse", "format": value.format, "shape": list(csr.shape), **parts}
    return value


def decoded(value: Any) -> Any:
    """What :func:`encoded` was given."""
    kind = value.get("encoded") if isinstance(value, dict) else None
    if kind == "array":
        return value["array"].cpu().numpy()
    if kind == "sparse":
        parts = tuple(value[key].cpu().numpy() for key in ("data", "indices", "indptr"))
        return sparse.csr_matrix(parts, shape=tuple(value["shape"])).asformat(value["format"])
    return value


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
