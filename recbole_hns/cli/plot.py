"""``recbole-hns plot``: figures from result files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.errors import UserError
from recbole_hns.figures import OF_RUNS
from recbole_hns.files import writable_directory

if TYPE_CHECKING:
    from recbole_hns.results import Run

OPTIONS = options(
    metric=(
        str | None,
        Field(None, description="such as NDCG@20; unset is the first run's valid_metric"),
    ),
    output=(str, Field("figures", min_length=1, description="directory for the files")),
)

#: Of the values of a figure, in size.
LARGEST = 1e100

HELP = """\
Draw figures from the result files of runs, each as PNG and PDF. Runs that differ in nothing but the
seed are one line, their mean, in a band of one standard deviation:

\b
{figures}

Hardness is the ratio of means: the sum of the chosen negatives' scores over the sum of the
positives'.
""".format(figures="\n".join(f"  {name}: {summary}" for name, summary in OF_RUNS.items()))


def run(given: Given) -> None:
    """Draw the figures."""
    from recbole_hns.results import read_run

    files, values = given.files, given.values
    if not files:
        raise UserError("RESULT.json: at least one result file is needed")
    runs = [read_run(file) for file in files]
    for file, run in zip(files, runs, strict=True):
        _check_drawable(file, run)
    metric = _metric(values["metric"], runs)
    for file, run in zip(files, runs, strict=True):
        if metric.lower() not in _metrics(run):
            print(f"{file} has no {metric}: only its hardness is shown", file=sys.stderr)
    output = writable_directory("output", values["output"])

    # matplotlib takes a while to import
    from recbole_hns.figures import style

    for name in OF_RUNS:
        figure = importlib.import_module(f"recbole_hns.figures.{name}").draw(runs, metric)
        for path in style.save(figure, output, name):
            print(path)


def _check_drawable(file: str, run: Run) -> None:
    """See that matplotlib, which computes with differences of values, can draw them.

    Raises:
        UserError: if not.
    """
    for epoch in run.epochs:
        for name, value in {"hardness": epoch.hardness, **epoch.metrics}.items():
            if value is not None and abs(value) > LARGEST:
                allowed = f"{name}={value} of epoch {epoch.epoch} is beyond what can be drawn"
                raise UserError.of("result file", file, allowed)


def _metric(given: str | None, runs: Sequence[Run]) -> str:
    """The metric to show, which at least one of the runs has.

    Raises:
        UserError: if none has it.
    """
    metric = runs[0].config.get("valid_metric") if given is None else given
    keys = {key: None for run in runs for key in _metrics(run)}
    if str(metric).lower() not in keys:
        known = f"known: {', '.join(keys)}" if keys else "no epoch was evaluated"
        raise UserError.of("metric", metric, f"no result file has it; {known}")
    return str(metric)


def _metrics(run: Run) -> dict[str, None]:
    """The metrics that some epoch of a run has a value of, in order."""
    return {
        key: None
        for epoch in run.epochs
        for key, value in epoch.metrics.items()
        if value is not None
    }


COMMAND = Command(
    "plot",
    run,
    "RESULT.json ... [--OPTION=VALUE ...]",
    HELP,
    {"Options": OPTIONS},
    takes_files=True,
)
