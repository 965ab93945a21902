"""Reading back the result files that :mod:`recbole_hns.record` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from recbole_hns.errors import UserError
from recbole_hns.protocol import Protocol


class Epoch(BaseModel):
    """One epoch of a run; its further keys are the metrics, of epochs that were evaluated.

    Attributes:
        epoch: counted from 0.
        hardness: mean negative hardness, None where it was undefined.
    """

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, FiniteFloat | None]

    epoch: int
    train_loss: FiniteFloat | None = None
    train_seconds: FiniteFloat | None = None
    hardness: FiniteFloat | None = None
    eval_seconds: FiniteFloat | None = None

    @property
    def metrics(self) -> dict[str, FiniteFloat | None]:
        """Validation result by RecBole's key, such as ``ndcg@10``."""
        return self.model_extra or {}


class Run(BaseModel):
    """What a result file tells about a run, as far as it is read.

    Attributes:
        sampler: its name.
        config: the resolved config.
        protocol: what the epochs were evaluated on: the validation part, or the test part.
        epochs: at least one.
    """

    model_config = ConfigDict(strict=True)

    sampler: str
    config: dict[str, Any]
    protocol: Protocol = "valid"
    epochs: list[Epoch] = Field(min_length=1)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a result file.

    Raises:
        UserError: if it cannot be read or is no result file with at least one epoch.
    """
    try:
        return Run.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UserError.of("result file", path, f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise UserError.of("result file", path, f"is no result file of a run: {reason}") from None
