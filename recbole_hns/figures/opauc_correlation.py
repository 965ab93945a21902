"""Correlation of NormOPAUC(beta) with top-K metrics, as in the HNS paper's section 3.2."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from recbole_hns.figures.style import explain, fit, line_styles, mark_note, styled

#: Titles that say more than the metric's name.
TITLES = {"Recall": "Recall@K (∝ Precision@K)"}


@styled
def draw(correlations: pd.DataFrame) -> Figure:
    """Draw one panel a metric, one curve a K, over beta; each curve's peak is marked.

    Args:
        correlations: as :func:`recbole_hns.simulation.simulate` returns it.
    """
    metrics = correlations["metric"].unique()
    figure = Figure(figsize=(2.5 * len(metrics), 2.6), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharex=True, sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        curves = correlations[correlations["metric"] == metric].groupby("k")
        for (k, curve), style in zip(curves, line_styles(), strict=False):
            peak = curve["correlation"].argmax()
            panel.plot(
                curve["beta"],
                curve["correlation"],
                **style,
                markevery=[peak],
                markersize=7,
                fillstyle="full",
                label=f"K = {k}",
            )
        panel.set(xscale="log", title=TITLES.get(metric, f"{metric}@K"), xlabel="β")
    panels[0].set_ylabel("Correlation with NormOPAUC(β)")
    # one axis for all panels
    lines = [
        curve[["beta", "correlation"]].dropna().to_numpy()
        for _, curve in correlations.groupby(["k", "metric"])
    ]
    notes = fit(panels[0], lines)
    explain(figure, panels[0].get_legend_handles_labels()[0], [mark_note("o", "peak"), *notes])
    return figure
