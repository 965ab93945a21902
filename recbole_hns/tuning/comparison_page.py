"""The table of a comparison in Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from recbole_hns.tuning.page import pipe_table

#: Rows below those of the samplers.
BELOW = 3

#: The level of the tests: a larger corrected p-value does not distinguish a sampler from the best.
LEVEL = 0.05

#: Columns of seconds, and their headers.
SHOWN_SECONDS = {"train_seconds": "seconds", "train_cpu_seconds": "CPU seconds"}

#: The mark of such a sampler.
TIED = "†"


@dataclass(frozen=True)
class Markup:
    """How a format writes what a cell has.

    Attributes:
        text: escapes a name.
        best: marks the best value.
        second: marks the second.
        tied: is put after a value that the test does not distinguish from the best.
        plus_minus: between mean and standard deviation.
    """

    text: Callable[[str], str]
    best: str
    second: str
    tied: str
    plus_minus: str


MARKDOWN = Markup(str, "**{}**", "<u>{}</u>", f" {TIED}", " ± ")
LATEX = Markup(
    lambda name: name.replace("_", r"\_").replace("%", r"\%"),
    r"\textbf{{{}}}",
    r"\underline{{{}}}",
    r"$^\dagger$",
    r" $\pm$ ",
)


def markdown(statistics: pd.DataFrame, seconds: pd.DataFrame, note: str) -> str:
    """The table as Markdown, with a note under it.

    Args:
        statistics: as :func:`recbole_hns.tuning.statistics.compared` returns it.
        seconds: those that a run of each sampler trained, with the columns of
            :data:`SHOWN_SECONDS`.
        note: what the numbers are of.
    """
    header, *rows = _cells(statistics, seconds, MARKDOWN)
    return f"{pipe_table(header, rows)}\n\n{note}\n"


def latex(statistics: pd.DataFrame, seconds: pd.DataFrame, note: str) -> str:
    """The table as a LaTeX ``tabular`` that needs the package booktabs; see :func:`markdown`."""
    header, *rows = [" & ".join(row) + r" \\" for row in _cells(statistics, seconds, LATEX)]
    columns = "l" + "r" * (statistics["metric"].nunique() + len(SHOWN_SECONDS))
    return _tabular(note, columns, header, rows[:-BELOW], rows[-BELOW:])


def users_markdown(against: pd.DataFrame, note: str) -> str:
    """The tests over users against the best as Markdown, with a note under them.

    Args:
        against: of one metric and its best row, as
            :func:`recbole_hns.tuning.user_statistics.users_compared` has them.
        note: what the numbers are of.
    """
    header, *rows = _user_cells(against, MARKDOWN)
    return f"{pipe_table(header, rows)}\n\n{note}\n"


def users_latex(against: pd.DataFrame, note: str) -> str:
    """The same as a LaTeX ``tabular``."""
    header, *rows = [" & ".join(row) + r" \\" for row in _user_cells(against, LATEX)]
    return _tabular(note, "lrrrrr", header, rows)


def _tabular(note: str, columns: str, header: str, *groups: Sequence[str]) -> str:
    ruled = [line for group in groups for line in (r"\midrule", *group)]
    start = [f"% {note}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header]
    return "\n".join([*start, *ruled, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _user_cells(against: pd.DataFrame, markup: Markup) -> list[list[str]]:
    best = markup.text(str(against["first"].iloc[0]))
    rows = [[f"{best} over", "difference", "95% interval", "p-value", "Holm", "effect"]]
    rows[0] = [rows[0][0], *map(markup.text, rows[0][1:])]
    for row in against.itertuples():
        tied = markup.tied if row.p_holm >= LEVEL else ""
        rows.append(
            [
                markup.text(str(row.second)),
                f"{row.difference:+.4f}{tied}",
                f"{row.low:+.4f} to {row.high:+.4f}",
                f"{row.p_value:.2g}",
                f"{row.p_holm:.2g}",
                f"{row.effect:+.2f}",
            ]
        )
    return rows


def _cells(statistics: pd.DataFrame, seconds: pd.DataFrame, markup: Markup) -> list[list[str]]:
    """Header, one row a sampler, and :data:`BELOW` rows of improvement and p-values."""
    metrics = list(statistics["metric"].unique())
    rows = [["sampler", *(markup.text(metric) for metric in metrics), *SHOWN_SECONDS.values()]]
    for sampler, own in statistics.groupby("sampler", sort=False):
        cells = own.set_index("metric").loc[metrics].itertuples()
        values = [_value(cell, markup) for cell in cells]
        taken = [f"{seconds.loc[sampler, key]:.1f}" for key in SHOWN_SECONDS]
        rows.append([markup.text(sampler), *values, *taken])
    second = statistics[statistics["rank"] == 2].set_index("metric").reindex(metrics)
    none = [""] * len(SHOWN_SECONDS)
    improvement = _numbers(second["improvement_percent"], "{:+.2f}")
    rows.append([markup.text("improvement, %"), *improvement, *none])
    rows.append(["p-value", *_numbers(second["p_value"], "{:.2g}"), *none])
    rows.append(["p-value, Holm", *_numbers(second["p_holm"], "{:.2g}"), *none])
    return rows


def _value(cell: Any, markup: Markup) -> str:
    if math.isnan(cell.mean):
        return "-"
    text = f"{cell.mean:.4f}"
    text = {1: markup.best, 2: markup.second}.get(cell.rank, "{}").format(text)
    if not math.isnan(cell.std):
        text += f"{markup.plus_minus}{cell.std:.4f}"
    return text + (markup.tied if cell.p_holm >= LEVEL else "")


def _numbers(values: Sequence[float], form: str) -> list[str]:
    return ["-" if math.isnan(value) else form.format(value) for value in values]
