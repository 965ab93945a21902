"""The result file ``<run name>.json`` that a run leaves beside its checkpoint."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recbole_hns.checkpoint import plain
from recbole_hns.files import replace_file
from recbole_hns.protocol import paper_note

PACKAGES = ("recbole-hns", "recbole", "torch", "numpy", "scipy", "pandas")


class RunRecord:
    """What a run did, epoch by epoch; :meth:`write` replaces the file in one step.

    Attributes:
        path: the file.
        epochs: one dictionary an epoch: ``epoch``, ``train_loss``, ``train_seconds``,
            ``hardness`` and, where the epoch was evaluated, ``eval_seconds`` and each metric
            under its RecBole key.
        results: ``best_epoch``, ``best_valid_score``, ``best_valid_result``, ``test_result``, as
            far as known.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.epochs: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        self._header = {
            "run": path.stem,
            "model": config["model"],
            "dataset": config["dataset"],
            "sampler": config["sampler"],
            "seed": config["seed"],
            "protocol": config["protocol"],
            "versions": versions(),
            "config": config,
        }
        if config["protocol"] == "paper":
            self._header["note"] = paper_note(config["eval_step"] > 0)

    def content(self) -> dict[str, Any]:
        """What the file holds, as plain data with None for a number that is not finite."""
        return _finite(plain({**self._header, **self.results, "epochs": self.epochs}))

    def write(self) -> None:
        """Replace the file."""
        text = json.dumps(self.content(), indent=1, allow_nan=False)
        replace_file(self.path, lambda file: file.write(text.encode() + b"\n"))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose release can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _finite(value: Any) -> Any:
    """``value`` with null where JSON has no number for it."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
