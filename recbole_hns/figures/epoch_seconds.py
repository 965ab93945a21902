"""Seconds per training epoch of each sampler, as in the AHNS paper's Figure 7."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from recbole_hns.figures import names
from recbole_hns.figures.style import COLORS, plain, styled


@styled
def draw(table: pd.DataFrame) -> Figure:
    """Draw one bar an entry, the median, with a line from its fastest epoch to its slowest.

    Args:
        table: as :func:`recbole_hns.benchmark.report.timing_table` returns it.
    """
    # from top to bottom
    table = table.iloc[::-1]
    figure = Figure(figsize=(6.0, 0.9 + 0.3 * len(table)), layout="constrained")
    panel = figure.subplots()
    colors = [COLORS[1] if label.startswith("RecBole ") else COLORS[0] for label in table["entry"]]
    fastest, seconds, slowest = table[["fastest", "seconds", "slowest"]].to_numpy().T
    spread = [seconds - fastest, slowest - seconds]
    bars = panel.barh(
        [plain(names.entry(label)) for label in table["entry"]], seconds, xerr=spread, color=colors
    )
    panel.bar_label(bars, [f" {value:.3g}" for value in seconds], padding=2)
    panel.margins(x=0.12)
    panel.grid(visible=False, axis="y")
    panel.set_axisbelow(True)
    panel.set_xlabel("Seconds per training epoch (line: fastest to slowest)")
    return figure
