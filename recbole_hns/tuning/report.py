"""What a sweep leaves: the best config, figures, and a page that sums up."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tabulate import tabulate

from recbole_hns.files import write_yaml

if TYPE_CHECKING:
    from recbole_hns.config import Config
    from recbole_hns.tuning.space import Space, Sweep

#: Trials that the page shows.
SHOWN = 10


def write_report(
    sweep: Sweep, config: Config, table: pd.DataFrame, output: Path, seconds: float
) -> str:
    """Write ``best.yaml`` and the figures of a sweep.

    Args:
        sweep: the sweep.
        config: a config of it.
        table: its trials, as :class:`recbole_hns.tuning.table.TrialTable` has them.
        output: the directory.
        seconds: of wall-clock time that the trials took together.

    Returns:
        A page with the best trials, what failed, and the command that reruns the best.
    """
    ranked = ranking(table, config["valid_metric_bigger"])
    lines = [_counts(table, seconds)]
    if len(ranked):
        best = sweep.points[ranked.iloc[0]["trial"]]
        again = "recbole-hns run --config_files=" + shlex.quote(f"{output}/best.yaml")
        on_all = f"{again} --protocol=all --epochs={ranked.iloc[0]['best_epoch']:.0f}"
        comment = f"to train on every part of the data: {' '.join(on_all.split())}"
        write_yaml({**sweep.keys, **best}, output / "best.yaml", comment)
        metric = config["valid_metric"].lower()
        figures = _draw(sweep.space, metric, ranked, output)
        lines = [
            _best_table(ranked, list(best), metric),
            "",
            *lines,
            f"files in {output}: {', '.join(['trials.csv', 'best.yaml', 'trials/', *figures])}",
            f"the best again: {again}",
            f"to deploy, on every part of the data: {on_all}",
        ]
    return "\n".join(lines)


def ranking(table: pd.DataFrame, bigger: bool) -> pd.DataFrame:
    """The finished trials, the best validation score first."""
    finished = table[table["status"] == "finished"]
    if "score" not in finished:
        return finished.iloc[:0]
    finished = finished.dropna(subset="score")
    return finished.sort_values("score", ascending=not bigger, kind="stable")


def _best_table(ranked: pd.DataFrame, parameters: list[str], metric: str) -> str:
    columns = {
        "trial": "trial",
        **{name: name for name in parameters},
        f"valid_{metric}": f"valid {metric}",
        f"test_{metric}": f"test {metric}",
        "best_epoch": "best epoch",
        "train_seconds": "training seconds",
    }
    shown = ranked.head(SHOWN)[list(columns)]
    formats = ["", *["g" for _ in parameters], ".4f", ".4f", ".0f", ".1f"]
    rows = list(shown.itertuples(index=False, name=None))
    return tabulate(rows, headers=list(columns.values()), floatfmt=formats, numalign="right")


def _counts(table: pd.DataFrame, seconds: float) -> str:
    counts = table["status"].value_counts()
    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    return f"{len(table)} trials, {told}, in {seconds:.1f} s"


def _draw(space: Space, metric: str, finished: pd.DataFrame, output: Path) -> list[str]:
    """Curves over every number that varies, and maps of every two on the grid; their file names."""
    # matplotlib takes a while to import
    from recbole_hns.figures import hardness_curves, hardness_map, style

    varied = [
        name
        for name in space.parameters
        if pd.api.types.is_numeric_dtype(finished[name]) and finished[name].nunique() > 1
    ]
    figures = {
        name: hardness_curves.draw(finished, name, drawn=name in space.distributions)
        for name in varied
    }
    for x, y in itertools.combinations([name for name in varied if name in space.grids], 2):
        figures[f"{x}-{y}"] = hardness_map.draw(finished, x, y, metric)
    return [
        path.name for name, figure in figures.items() for path in style.save(figure, output, name)
    ]
