"""Callbacks that keep track of a run: a CSV file, MLflow.

A callback is called at the end of every epoch with an
:class:`~recbole_hns.training.trainer.EpochEnd`, and, if it has a method ``finish``, at the end of
the run with its :class:`~recbole_hns.recommendation.result.RunResult`. TensorBoard and Weights &
Biases, ``log_wandb=True``, need none.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_hns.errors import UserError
from recbole_hns.files import replace_file, writable_directory
from recbole_hns.results import as_json

if TYPE_CHECKING:
    from recbole_hns.recommendation.result import RunResult
    from recbole_hns.training.trainer import EpochEnd

#: The tag by which a resumed run finds its run in MLflow.
RUN_TAG = "recbole_hns.run"

#: How many parameters MLflow takes at once.
PARAMETERS_AT_ONCE = 100


class CsvLog:
    """Writes a CSV file with one line an epoch, as the result file has it.

    The file is replaced in one step at the end of every epoch. That of a resumed run has all
    epochs, those before the interruption too.

    Args:
        path: the file.

    Raises:
        UserError: if its folder cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        writable_directory("path", str(self.path.parent))

    def __call__(self, end: EpochEnd) -> None:
        """Replace the file."""
        epochs = end.trainer.record.epochs
        # an epoch that was not evaluated has fewer
        columns = list(dict.fromkeys(key for epoch in epochs for key in epoch))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(epochs)
        replace_file(self.path, lambda file: file.write(text.getvalue().encode()))


class MLflow:
    """Logs a run to MLflow: its config, every epoch, the test result, and the result file.

    A metric such as ``ndcg@10`` is ``ndcg_at_10`` there, of the test ``test_ndcg_at_10``. A run
    that is interrupted stays "running" in MLflow; when it is resumed, it goes on there.

    Args:
        experiment: name of the experiment, which is made if there is none.
        tracking_uri: address of a server, or of a store such as ``sqlite:///mlruns.db``; default
            MLflow's own.

    Raises:
        UserError: if MLflow is not installed.
    """

    def __init__(self, experiment: str = "recbole-hns", tracking_uri: str | None = None) -> None:
        try:
            # takes seconds, and is no dependency
            self._entities = importlib.import_module("mlflow.entities")
            self._client = importlib.import_module("mlflow").MlflowClient(tracking_uri)
        except ModuleNotFoundError:
            needs = "needs MLflow: pip install 'recbole-hns[mlflow]'"
            raise UserError.of("experiment", experiment, needs) from None
        self._experiment = experiment
        self._run: str | None = None

    def __call__(self, end: EpochEnd) -> None:
        """Log the epoch."""
        if self._run is None:
            self._run = self._start(end)
        self._log(
            self._run, {key: end.record[key] for key in end.record if key != "epoch"}, end.epochs
        )

    def finish(self, result: RunResult) -> None:
        """Log the test result and the result file, and end the run."""
        run, self._run = self._run, None
        if run is None:  # no epoch was left to train
            return
        tested = {f"test_{key}": value for key, value in result.metrics.items()}
        self._log(run, {**tested, "best_epoch": result.best_epoch}, len(result.epochs))
        if result.result_file is not None:
            self._client.log_artifact(run, str(result.result_file))
        self._client.set_terminated(run)

    def _start(self, end: EpochEnd) -> str:
        """The id of the run, which a resumed run has already."""
        client, name = self._client, end.trainer.record.path.stem
        found = client.get_experiment_by_name(self._experiment)
        experiment = (
            client.create_experiment(self._experiment) if found is None else found.experiment_id
        )
        before = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{name}'")
        if before:
            run: str = before[0].info.run_id
            client.update_run(run, "RUNNING")
            return run
        run = client.create_run(experiment, tags={RUN_TAG: name}, run_name=name).info.run_id
        config = as_json(end.trainer.config.final_config_dict)
        parameters = [
            self._entities.Param(_name(key), str(value))
            for key, value in config.items()
            if value is not None
        ]
        for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
            client.log_batch(run, params=parameters[first : first + PARAMETERS_AT_ONCE])
        return run

    def _log(self, run: str, values: Mapping[str, Any], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(_name(key), float(value), now, step)
            for key, value in values.items()
            if value is not None
        ]
        self._client.log_batch(run, metrics=metrics)


def _name(key: str) -> str:
    """A key in the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", key.replace("@", "_at_"))
