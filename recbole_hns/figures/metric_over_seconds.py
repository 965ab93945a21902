"""A validation metric against training seconds."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from recbole_hns.figures.style import line_styles, plain, styled

#: Markers on a line, at most.
MARKERS_PER_LINE = 10


@styled
def draw(curves: pd.DataFrame, metric: str, target: float) -> Figure:
    """Draw one line an entry, and the target.

    Args:
        curves: as :func:`recbole_hns.benchmark.report.curves_table` returns it.
        metric: name of the metric.
        target: its value that ends the training.
    """
    lines = list(curves.groupby("entry", sort=False))
    columns = max(1, 80 // (8 + max(len(label) for label, _ in lines)))
    rows = math.ceil(len(lines) / columns)
    figure = Figure(figsize=(6.0, 3.4 + 0.2 * rows), layout="constrained")
    panel = figure.subplots()
    for (label, line), style in zip(lines, line_styles(), strict=False):
        step = 1 + len(line) // MARKERS_PER_LINE
        panel.plot(
            line["train_seconds"], line["value"], **style, markevery=step, label=plain(label)
        )
    panel.axhline(target, color="gray", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xlabel("Training seconds")
    panel.set_ylabel(plain(f"{metric} (validation)"))
    figure.legend(loc="outside lower center", ncols=columns)
    return figure
