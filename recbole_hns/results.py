"""The result file ``<run name>.json`` of a run: one schema for writing and for reading it."""

from __future__ import annotations

import functools
import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from recbole_hns.errors import UserError
from recbole_hns.files import plain, replace_file
from recbole_hns.protocol import Protocol, protocol_note

PACKAGES = ("recbole-hns", "recbole", "torch", "numpy", "scipy", "pandas")

#: Seconds of an epoch; of training also those of the processor.
SECONDS = ("train_seconds", "train_cpu_seconds", "eval_seconds")

#: A metric's value; None where it is not finite, for which JSON has no number.
Metrics = dict[str, FiniteFloat | None]


class Epoch(BaseModel):
    """One epoch of a run; its further keys are the metrics, of epochs that were evaluated.

    Attributes:
        epoch: the number of epochs trained by its end, so the first is 1.
        train_cpu_seconds: of the processor, all threads of the process together.
        hardness: mean negative hardness, None where it was undefined.
        eval_seconds: None where the epoch was not evaluated.
    """

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: Metrics

    epoch: Annotated[int, Field(ge=0, lt=2**53)]
    train_loss: FiniteFloat | None = None
    train_seconds: FiniteFloat | None = None
    train_cpu_seconds: FiniteFloat | None = None
    hardness: FiniteFloat | None = None
    eval_seconds: FiniteFloat | None = None

    @property
    def metrics(self) -> Metrics:
        """Validation result by RecBole's key, such as ``ndcg@10``."""
        return self.model_extra or {}


class Run(BaseModel):
    """The content of a result file; one without sampler, config or epochs is none.

    Attributes:
        run: its name, that of its files.
        sampler: the sampler's name.
        loss: the loss's name.
        protocol: what the epochs were evaluated on: the validation part, the test part, or, with
            ``all``, nothing.
        versions: of Python and of the packages whose release can change a result.
        config: the resolved config.
        note: what has to be said of the protocols ``paper`` and ``all``.
        best_epoch: the number of epochs after which validation was best; 0 before the first
            evaluation.
        test_result: the test metrics, with which a run ends.
        tried: of a baseline, whose name stands in place of the sampler's, every setting with its
            validation ``score`` and the ``seconds`` of its fit.
        epochs: at least one.
    """

    model_config = ConfigDict(strict=True)

    run: str | None = None
    model: str | None = None
    dataset: str | None = None
    sampler: str
    loss: str | None = None
    seed: int | None = None
    protocol: Protocol = "valid"
    versions: dict[str, str] = Field(default_factory=dict)
    config: dict[str, Any]
    note: str | None = None
    best_epoch: int | None = None
    best_valid_score: FiniteFloat | None = None
    best_valid_result: Metrics | None = None
    test_result: Metrics | None = None
    tried: list[dict[str, Any]] | None = None
    epochs: list[Epoch] = Field(min_length=1)

    @model_validator(mode="after")
    def _count_from_1(self) -> Run:
        """Read a file of the former version, which counted epochs from 0."""
        if self.epochs[0].epoch == 0:
            for epoch in self.epochs:
                epoch.epoch += 1
            if self.best_epoch is not None:
                self.best_epoch += 1
        return self


class RunRecord:
    """What a run has done so far; :meth:`write` replaces its result file in one step.

    Args:
        path: the file.
        config: the resolved config.

    Attributes:
        path: the file.
        epochs: one dictionary an epoch, with the keys of :class:`Epoch`.
        results: ``best_epoch``, ``best_valid_score``, ``best_valid_result``, ``test_result`` and
            ``tried``, as far as known.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.epochs: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        named = ("model", "dataset", "sampler", "loss", "seed", "protocol")
        self._header = {
            "run": path.stem,
            **{key: config[key] for key in named},
            "versions": versions(),
            "config": config,
        }
        note = protocol_note(config["protocol"], config["eval_step"] > 0)
        if note is not None:
            self._header["note"] = note

    def content(self) -> Run:
        """What the file holds, with None for a number that is not finite."""
        values = {**self._header, **self.results, "epochs": self.epochs}
        return Run.model_validate(as_json(values))

    def write(self) -> None:
        """Replace the file."""
        # what is not known yet is left out, what is undefined is null
        text = json.dumps(self.content().model_dump(exclude_unset=True), indent=1, allow_nan=False)
        replace_file(self.path, lambda file: file.write(text.encode() + b"\n"))


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
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError.of("result file", path, f"is no result file of a run: {reason}") from None


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose release can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_json(value: Any) -> Any:
    """``value`` as a result file holds it."""
    return finite(plain(value))


def finite(value: Any) -> Any:
    """``value`` with null where JSON has no number for it."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
