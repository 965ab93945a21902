"""Mean negative hardness and a metric over the epochs, the AHNS paper's Figure 5."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recbole_hns.figures.labels import labels
from recbole_hns.figures.style import line_styles, plain, styled
from recbole_hns.results import Run

#: Markers on a line, at most.
MARKERS_PER_LINE = 10


@styled
def draw(runs: Sequence[Run], metric: str) -> Figure:
    """Draw two panels, hardness and the metric, with one line a run.

    The hardness of an epoch is the ratio of means: the sum of the chosen negatives' scores over
    the sum of the positives'. An epoch without a value is left out.

    Args:
        runs: the runs.
        metric: key of the metric in any case, such as ``NDCG@20``.
    """
    names = [plain(label) for label in labels(runs)]
    columns = max(1, min(len(names), 90 // (8 + max(map(len, names)))))
    legend_rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(7.2, 3.1 + 0.2 * legend_rows), layout="constrained")
    left, right = figure.subplots(1, 2)
    hardness = [_series(run, [epoch.hardness for epoch in run.epochs]) for run in runs]
    values = [
        _series(run, [epoch.metrics.get(metric.lower()) for epoch in run.epochs]) for run in runs
    ]
    for panel, lines in ((left, hardness), (right, values)):
        for index, (line, style) in enumerate(zip(lines, line_styles(), strict=False)):
            step = 1 + len(line) // MARKERS_PER_LINE
            panel.plot(*line.T, **style, markevery=(index % step, step), label=names[index])
        panel.set_xlabel("Epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    left.set_ylabel("Mean negative hardness, ratio of means\n(Σ negative / Σ positive scores)")
    # a run with protocol all has no metric
    parts = {"valid": "validation", "paper": "test, protocol paper"}
    shown = sorted({parts[run.protocol] for run in runs if run.protocol in parts}, reverse=True)
    right.set_ylabel(plain(f"{metric} ({'; '.join(shown)})"))
    _limit(left, hardness)
    handles, _ = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)
    return figure


def _series(run: Run, values: Sequence[float | None]) -> NDArray[np.float64]:
    """The epochs that have a value, with it, ``[points, 2]``."""
    points = [
        (epoch.epoch, value)
        for epoch, value in zip(run.epochs, values, strict=True)
        if value is not None
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _limit(panel: Axes, lines: Sequence[NDArray[np.float64]]) -> None:
    """Limit the hardness axis to what says something, and mark the epochs beyond it.

    While the positives' scores still sum to about 0, early in training, their ratio is anything
    from -1000 to 1000. So the first half of a run counts only where a negative's score is at most
    that of its positive in size.
    """
    kept = [line[len(line) // 2 :, 1] for line in lines]
    kept += [line[np.abs(line[:, 1]) <= 1, 1] for line in lines]
    values = np.concatenate(kept)
    if not len(values):
        return
    margin = 0.05 * np.ptp(values) or 0.05
    low, high = values.min() - margin, values.max() + margin
    panel.set_ylim(low, high)
    for line, style in zip(lines, line_styles(), strict=False):
        for marker, edge, beyond in (
            ("^", high, line[line[:, 1] > high, 0]),
            ("v", low, line[line[:, 1] < low, 0]),
        ):
            if len(beyond):
                edges = np.full(len(beyond), edge)
                color = style["color"]
                panel.plot(beyond, edges, marker, color=color, fillstyle="full", clip_on=False)
                panel.set_title("▲ ▼ epochs beyond the axis", loc="right", fontsize="small")
