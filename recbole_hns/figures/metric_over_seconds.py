"""A validation metric against training seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_hns.figures import names
from recbole_hns.figures.style import NEUTRAL, explain, fit, line_styles, plain, styled

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
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    panel = figure.subplots()
    for (label, line), style in zip(lines, line_styles(), strict=False):
        step = 1 + len(line) // MARKERS_PER_LINE
        label = plain(names.entry(label))
        panel.plot(line["train_seconds"], line["value"], **style, markevery=step, label=label)
    # the target is inside, whatever the lines are
    points = [line[["train_seconds", "value"]].to_numpy(dtype=float) for _, line in lines]
    notes = fit(panel, [*points, np.array([[1.0, target]])], early=True)
    panel.axhline(target, color=NEUTRAL, linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xlabel("Training seconds")
    panel.set_ylabel(plain(f"{names.metric(metric)} (validation)"))
    goal = Line2D([], [], color=NEUTRAL, linewidth=0.8, label=f"target, {target:g}")
    explain(figure, panel.get_legend_handles_labels()[0], [goal, *notes])
    return figure
