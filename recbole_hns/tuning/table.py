"""The table of a job's trials, ``trials.csv``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_hns.files import replace_file
from recbole_hns.results import SECONDS
from recbole_hns.tuning.space import frozen

#: What a trial's row says of how it ended. A stopped one was ended by the scheduler, untested.
STATUSES = ("finished", "stopped", "failed", "waiting")


class TrialTable:
    """One row a trial: its parameters, how it ended, its metrics and its seconds.

    Columns are ``trial``, the parameters, ``status`` (one of :data:`STATUSES`), ``error``, what
    :func:`recbole_hns.tuning.trial.outcome` reports, and ``result_file``, relative to the table, of
    those that have come to their first evaluation.

    Args:
        points: parameters of each trial.
        files: result file of each trial.
        path: where the table is written.
        grows: whether there will be more.

    Attributes:
        path: see there.
        points: see there, with those that were added.
    """

    def __init__(
        self,
        points: Sequence[Mapping[str, Any]],
        files: Sequence[Path],
        path: Path,
        grows: bool = False,
    ) -> None:
        self.path = path
        self._grows = grows
        self.points: list[Mapping[str, Any]] = []
        self._index: dict[Hashable, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._files: list[Path] = []
        self._parameters: dict[str, None] = {}
        for point, file in zip(points, files, strict=True):
            self.add(point, file)

    def add(self, point: Mapping[str, Any], file: Path) -> None:
        """A further trial."""
        index = len(self.points)
        self.points.append(point)
        self._index[frozen(point)] = index
        self._parameters.update(dict.fromkeys(point))
        row = {"trial": index, **point, "status": "waiting", "error": None}
        self._rows.append(row)
        self._files.append(file)

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
        file = self._files[row["trial"]]
        if file.is_file():
            row["result_file"] = file.relative_to(self.path.parent).as_posix()
        told = ("score", "best_epoch", "epochs", *SECONDS)
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
        others = [key for key in frame if key != "result_file"]
        first = ["trial", *self._parameters, "status", "error"]
        order = dict.fromkeys([*first, *others, "result_file"])
        return frame.reindex(columns=list(order))

    @property
    def statuses(self) -> list[str]:
        """How the trials ended, in order."""
        return [row["status"] for row in self._rows]

    def counts(self) -> str:
        """How many trials there are, and how many have ended how."""
        states = self.statuses
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
        score = row.get("score")
        result = "not evaluated" if score is None else f"validation {score:.4f}"
        result = row["error"] or f"{result}, {row.get('epochs', 0)} epochs"
        of = "" if self._grows else f"/{len(self._rows)}"
        return f"[{ended}{of}] {settings}: {row['status']}, {result}"

    def typed(self) -> pd.DataFrame:
        """The table with columns of their own types, for statistics."""
        return self.frame().infer_objects()

    def has_ended(self, point: Mapping[str, Any]) -> bool:
        """Whether a trial's row is filled."""
        return self._row(point)["status"] != "waiting"

    def _row(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return self._rows[self._index[frozen(point)]]
