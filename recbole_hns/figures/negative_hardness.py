"""Mean negative hardness and a metric over the epochs, the AHNS paper's Figure 5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from recbole.evaluator.register import smaller_metrics

from recbole_hns.figures import names
from recbole_hns.figures.labels import labels, over_seeds
from recbole_hns.figures.style import NEUTRAL, explain, fit, line_styles, mark_note, plain, styled
from recbole_hns.results import Run

#: Markers on a line, at most.
MARKERS_PER_LINE = 10


@styled
def draw(runs: Sequence[Run], metric: str) -> Figure:
    """Draw two panels, hardness and the metric, with one line for runs that differ in the seed.

    A line is the mean of its runs, over the epochs that all of them have, in a band of one standard
    deviation. The hardness of an epoch is the ratio of means: the sum of the chosen negatives'
    scores over the sum of the positives'. An epoch without a value is left out. The best epoch of a
    line is marked.

    Args:
        runs: the runs.
        metric: key of the metric in any case, such as ``NDCG@20``.
    """
    groups = over_seeds(runs)
    shown = [plain(label) for label in labels([group[0] for group in groups])]
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    key = metric.lower()
    hardness = [
        _mean([_series(run, [epoch.hardness for epoch in run.epochs]) for run in group])
        for group in groups
    ]
    values = [
        _mean([_series(run, [epoch.metrics.get(key) for epoch in run.epochs]) for run in group])
        for group in groups
    ]
    notes: list[Artist] = []
    for panel, lines in ((left, hardness), (right, values)):
        for index, (line, style) in enumerate(zip(lines, line_styles(), strict=False)):
            step = 1 + len(line) // MARKERS_PER_LINE
            x, mean, *band = line.T
            panel.plot(x, mean, **style, markevery=(index % step, step), label=shown[index])
            if len(groups[index]) > 1:
                panel.fill_between(x, *band, color=style["color"], alpha=0.15, linewidth=0)
        notes += fit(panel, lines, early=True)
        panel.set_xlabel("Epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    smaller = key.partition("@")[0] in smaller_metrics
    for line, style in zip(values, line_styles(), strict=False):
        if len(line):
            best = line[line[:, 1].argmin() if smaller else line[:, 1].argmax()]
            color, marker = style["color"], style["marker"]
            right.plot(*best[:2], marker, color=color, fillstyle="full", ms=7, zorder=3)
            notes.append(mark_note("o", "best epoch"))
    left.set_ylabel("Hardness, ratio of means\n(Σ negative / Σ positive scores)")
    # a run with protocol all has no metric
    parts = {"valid": "validation", "paper": "test, protocol paper"}
    told = sorted({parts[run.protocol] for run in runs if run.protocol in parts}, reverse=True)
    right.set_ylabel(plain(f"{names.metric(metric)} ({'; '.join(told)})"))
    seeds = sorted({len(group) for group in groups if len(group) > 1})
    if seeds:
        number = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        label = f"mean ± standard deviation, {number} seeds"
        notes.append(Patch(color=NEUTRAL, alpha=0.3, linewidth=0, label=label))
    explain(figure, left.get_legend_handles_labels()[0], notes)
    return figure


def _series(run: Run, values: Sequence[float | None]) -> NDArray[np.float64]:
    """The epochs that have a value, with it, ``[points, 2]``."""
    points = [
        (epoch.epoch, value)
        for epoch, value in zip(run.epochs, values, strict=True)
        if value is not None
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _mean(series: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over the epochs that all series have: epoch, mean, and the band's edges, ``[points, 4]``."""
    common = sorted(set.intersection(*(set(line[:, 0]) for line in series)))
    values = np.array([line[np.isin(line[:, 0], common), 1] for line in series])
    mean = values.mean(axis=0)
    deviation = values.std(axis=0, ddof=1) if len(series) > 1 else np.zeros_like(mean)
    return np.stack([common, mean, mean - deviation, mean + deviation], axis=1)
