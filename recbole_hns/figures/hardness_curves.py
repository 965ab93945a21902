"""Metrics over a hyperparameter, one curve a K, as in the HNS paper's Figures 8 to 10."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from recbole.evaluator.register import smaller_metrics

from recbole_hns.figures import names
from recbole_hns.figures.style import explain, fit, line_styles, mark_note, plain, styled

#: What the filled marker of a curve is.
BEST = "best in validation"

#: A parameter whose largest value is this many times its smallest has a logarithmic axis.
LOGARITHMIC = 20

PHASES = {"valid": "validation", "test": "test"}


@styled
def draw(trials: pd.DataFrame, parameter: str, drawn: bool = False) -> Figure:
    """Draw a panel for each metric, of validation above and of test below, one curve a K.

    A point is, of the trials with that value of the parameter, the one that is best in validation.
    The best in validation of each curve is filled, in both rows, as the legend says.

    Args:
        trials: finished trials, with columns such as ``valid_ndcg@10`` and ``test_ndcg@10``.
        parameter: the column with the values of a number.
        drawn: whether these were drawn at random, so that each trial is a point and no line goes
            through them.
    """
    metrics: dict[str, list[str]] = {}
    for column in trials:
        phase, _, metric = column.partition("_")
        if phase == "valid" and trials[column].notna().all():
            metrics.setdefault(metric.partition("@")[0], []).append(metric)
    figure = Figure(figsize=(1.0 + 2.4 * len(metrics), 4.4), layout="constrained")
    panels = figure.subplots(2, len(metrics), sharex=True, squeeze=False)
    notes: list[Artist] = [mark_note("o", BEST)]
    for column, (name, keys) in enumerate(metrics.items()):
        for key, style in zip(keys, line_styles(), strict=False):
            curve = best_of_each(trials, [parameter], key)
            best = (
                curve[f"valid_{key}"].argmin() if _smaller(key) else curve[f"valid_{key}"].argmax()
            )
            for panel, phase in zip(panels[:, column], PHASES, strict=True):
                _curve(panel, curve[parameter], curve[f"{phase}_{key}"], best, key, style, drawn)
        for panel, phase in zip(panels[:, column], PHASES, strict=True):
            columns = [parameter, *(f"{phase}_{key}" for key in keys)]
            points = [best_of_each(trials, [parameter], key)[columns] for key in keys]
            notes += fit(panel, [part.to_numpy(dtype=float) for part in points])
        panels[0, column].set_title(plain(names.metric(name)))
        panels[1, column].set_xlabel(plain(names.axis(parameter)))
    values = trials[parameter]
    if values.min() > 0 and values.max() >= LOGARITHMIC * values.min():
        panels[0, 0].set_xscale("log")
    if not drawn:
        ticks = sorted(values.unique())
        panels[0, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        panels[0, 0].minorticks_off()
    for panel, phase in zip(panels[:, 0], PHASES.values(), strict=True):
        panel.set_ylabel(phase)
    # each K once, whichever metric has it
    handles = {
        handle.get_label(): handle
        for panel in panels[0]
        for handle in panel.get_legend_handles_labels()[0]
    }
    explain(figure, list(handles.values()), notes)
    return figure


def best_of_each(trials: pd.DataFrame, parameters: list[str], metric: str) -> pd.DataFrame:
    """For each value of some parameters, the trial with the best validation ``metric``."""
    ordered = trials.sort_values(f"valid_{metric}", ascending=_smaller(metric), kind="stable")
    return ordered.drop_duplicates(parameters).sort_values(parameters)


def _curve(
    panel: Axes, x: pd.Series, y: pd.Series, best: int, key: str, style: dict, drawn: bool
) -> None:
    if drawn:
        style = {**style, "linestyle": "none"}
    label = f"K = {key.partition('@')[2]}" if "@" in key else plain(names.metric(key))
    panel.plot(x, y, **style, label=label)
    panel.plot(
        x.iloc[best], y.iloc[best], style["marker"], color=style["color"], fillstyle="full", ms=8
    )


def _smaller(metric: str) -> bool:
    return metric.partition("@")[0] in smaller_metrics
