"""A metric over two hyperparameters, as in the AHNS paper's Figure 6."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from recbole_hns.figures import names
from recbole_hns.figures.hardness_curves import BEST, PHASES, best_of_each
from recbole_hns.figures.style import COLORS, explain, limits, plain, styled

#: The frame of the best cell.
FRAME: dict[str, Any] = {"fill": False, "edgecolor": COLORS[1], "linewidth": 2}


@styled
def draw(trials: pd.DataFrame, x: str, y: str, metric: str) -> Figure:
    """Draw two heat maps, of validation and of test, with the best in validation framed.

    A cell is, of the trials with its two values, the one that is best in validation.

    Args:
        trials: finished trials, with columns such as ``valid_ndcg@10`` and ``test_ndcg@10``.
        x: column of one parameter.
        y: column of the other.
        metric: key of the metric, such as ``ndcg@10``.
    """
    cells = best_of_each(trials, [x, y], metric)
    best = best_of_each(cells.assign(all=0), ["all"], metric).iloc[0]
    columns, rows = (sorted(cells[name].unique()) for name in (x, y))
    size = (1.6 + 2 * max(2.0, 0.5 * len(columns)), 1.2 + max(1.6, 0.36 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    widened = False
    for panel, (phase, title) in zip(figure.subplots(1, 2), PHASES.items(), strict=True):
        values = cells.pivot(index=y, columns=x, values=f"{phase}_{metric}")
        # colours do not magnify, as axes do not
        shown = values.to_numpy(dtype=float)
        low, high = limits(shown[~np.isnan(shown)])
        widened |= high - low > np.nanmax(shown) - np.nanmin(shown)
        image = panel.imshow(
            values, cmap="viridis", origin="lower", aspect="auto", vmin=low, vmax=high
        )
        middle = (image.norm.vmin + image.norm.vmax) / 2
        for (row, column), value in np.ndenumerate(shown):
            if np.isnan(value):
                continue
            color = "black" if value > middle else "white"
            panel.text(
                column, row, f"{value:.3f}", ha="center", va="center", color=color, fontsize=7
            )
        corner = columns.index(best[x]) - 0.5, rows.index(best[y]) - 0.5
        panel.add_patch(Rectangle(corner, 1, 1, **FRAME))
        panel.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        panel.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        panel.grid(visible=False)
        panel.set(xlabel=plain(names.axis(x)), ylabel=plain(names.axis(y)))
        panel.set_title(plain(f"{names.metric(metric)} ({title})"))
        figure.colorbar(image, ax=panel)
    notes: list[Artist] = [Patch(**FRAME, label=BEST)]
    if widened:
        label = "colours span at least a quarter of the largest value"
        notes.append(Patch(visible=False, label=label))
    explain(figure, [], notes)
    return figure
