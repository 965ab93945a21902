"""The table of a job's trials, ``trials.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_hns.files import replace_file
from recbole_hns.tuning.space import frozen

#: What a trial's row says of how it ended. A stopped one was ended by the scheduler, untested.
STATUSES = ("finished", "stopped", "failed", "waiting")


class TrialTable:
    """One row a trial: its parameters, how it ended, its metrics and its seconds.

    Columns are ``trial``, the parameters, ``status`` (one of :data:`STATUSES`), ``error``, what
    :func:`recbole_hns.tuning.trial.outcome` reports, and ``result_file``, relative to the table.

    Args:
        points: parameters of each trial.
        files: result file of each trial.
        path: where the table is written.

    Attributes:
        path: see there.
    """

    def __init__(
        self, points: Sequence[Mapping[str, Any]], files: Sequence[Path], path: Path
    ) -> None:
        self.path = path
        self._index = {frozen(point): index for index, point in enumerate(points)}
        self._rows = [
            {
                "trial": index,
                **point,
                "status": "waiting",
                "error": None,
                "result_file": file.relative_to(path.parent).as_posix(),
            }
            for index, (point, file) in enumerate(zip(points, files, strict=True))
        ]

    def put(
        self, point: Mapping[str, Any], metrics: Mapping[str, Any], error: object | None
    ) -> None:
        """Fill the row of a trial that has ended.

        Args:
            point: its parameters.
            metrics: its last report.
            error: what Ray says if it failed, else None.
        """
        row = self._row(point)
        told = ("score", "best_epoch", "epochs", "train_seconds", "eval_seconds")
        row.update(
            {
                key: value
                for key, value in metrics.items()
                if key in told or key.startswith(("valid_", "test_"))
            }
        )
        if error is None:
            row["status"] = "finished" if metrics.get("finished") else "stopped"
        else:
            # a trial's process that died could not tell why itself
            told_why = metrics.get("error") or " ".join(str(error).split())
            row.update(status="failed", error=told_why)

    def frame(self) -> pd.DataFrame:
        """The table."""
        # as objects, whole numbers stay whole where other trials have none
        frame = pd.DataFrame(self._rows, dtype=object)
        return frame[[*frame.columns.drop("result_file"), "result_file"]]

    def counts(self) -> str:
        """How many trials there are, and how many have ended how."""
        states = [row["status"] for row in self._rows]
        told = [f"{states.count(status)} {status}" for status in STATUSES if status in states]
        return f"{len(states)} trials, {', '.join(told)}"

    def write(self) -> None:
        """Replace the file."""
        content = self.frame().to_csv(index=False).encode()
        replace_file(self.path, lambda file: file.write(content))

    def line(self, point: Mapping[str, Any]) -> str:
        """How a trial ended, in one line, with how many have."""
        row = self._row(point)
        ended = sum(row["status"] != "waiting" for row in self._rows)
        settings = ", ".join(f"{key}={value}" for key, value in point.items())
        result = row["error"] or f"validation {row['score']:.4f}, {row['epochs']} epochs"
        return f"[{ended}/{len(self._rows)}] {settings}: {row['status']}, {result}"

    def typed(self) -> pd.DataFrame:
        """The table with columns of their own types, for statistics."""
        return self.frame().infer_objects()

    def has_ended(self, point: Mapping[str, Any]) -> bool:
        """Whether a trial's row is filled."""
        return self._row(point)["status"] != "waiting"

    def _row(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return self._rows[self._index[frozen(point)]]
