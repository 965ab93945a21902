"""Mean ranks of several rows, and which of them a test does not distinguish (Demšar, JMLR 2006)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import scikit_posthocs
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from recbole_hns.figures import names
from recbole_hns.figures.style import COLORS, explain, plain, styled

#: Of the bars that join rows.
WIDTH = 2
BAR: dict[str, Any] = {"color": COLORS[1], "marker": "", "linewidth": WIDTH}


@styled
def draw(
    ranks: pd.Series,
    p_values: pd.DataFrame,
    metric: str,
    level: float,
    users: int,
    friedman: float | None,
) -> Figure:
    """Draw rows by their mean ranks; a bar joins those that the tests do not distinguish.

    Args:
        ranks: mean rank of each row over users, 1 being the best.
        p_values: of the tests between every two rows, corrected, square.
        metric: key of the metric, such as ``ndcg@10``.
        level: a p-value of it or more does not distinguish.
        users: how many there are.
        friedman: p-value of Friedman's test that all are alike; None where it is not made.
    """
    shown = {name: plain(names.sampler(name)) for name in ranks.index}
    longest = max(map(len, shown.values()))
    figure = Figure(figsize=(4.5 + 0.14 * longest, 1.2 + 0.16 * len(ranks)), layout="constrained")
    panel = figure.subplots()
    scikit_posthocs.critical_difference_diagram(
        ranks.rename(shown),
        p_values.rename(index=shown, columns=shown),
        alpha=level,
        ax=panel,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        color_palette=dict.fromkeys(shown.values(), COLORS[0]),
        elbow_props={"linewidth": 0.8},
        crossbar_props=BAR,
    )
    panel.grid(visible=False)
    panel.set_title(plain(f"Mean rank in {names.metric(metric)} over {users:,} users"), fontsize=9)
    bar = Line2D([], [], **BAR, label=f"not distinguished (Wilcoxon, Holm, {level:g})")
    told = f"p = {friedman:.2g}" if friedman else "p < 1e-300"
    notes = [Patch(visible=False, label=f"Friedman's test of all: {told}")]
    explain(figure, [bar], notes if friedman is not None else [])
    return figure
