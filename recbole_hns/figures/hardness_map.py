"""A metric over two hyperparameters, as in the AHNS paper's Figure 6."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from recbole_hns.figures.hardness_curves import PHASES, best_of_each
from recbole_hns.figures.style import plain, styled


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
    for panel, (phase, title) in zip(figure.subplots(1, 2), PHASES.items(), strict=True):
        values = cells.pivot(index=y, columns=x, values=f"{phase}_{metric}")
        image = panel.imshow(values, cmap="viridis", origin="lower", aspect="auto")
        middle = (image.norm.vmin + image.norm.vmax) / 2
        for (row, column), value in pd.DataFrame(values.to_numpy()).stack().dropna().items():
            color = "black" if value > middle else "white"
            panel.text(
                column, row, f"{value:.3f}", ha="center", va="center", color=color, fontsize=7
            )
        corner = columns.index(best[x]) - 0.5, rows.index(best[y]) - 0.5
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", linewidth=2))
        panel.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        panel.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        panel.grid(visible=False)
        panel.set(xlabel=plain(x), ylabel=plain(y), title=plain(f"{metric} ({title})"))
        figure.colorbar(image, ax=panel)
    return figure
