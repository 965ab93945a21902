"""How much each parameter of a search mattered."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from recbole_hns.figures import names
from recbole_hns.figures.style import COLORS, plain, styled


@styled
def draw(importances: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw a panel of bars for each set of trials.

    Args:
        importances: by what the trials are, the importance of each parameter, which sum to 1.
    """
    longest = max(map(len, importances.values()))
    size = (1.5 + 3.6 * len(importances), 0.8 + 0.24 * longest)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(importances), squeeze=False)[0]
    for panel, (title, values) in zip(panels, importances.items(), strict=True):
        ordered = sorted(values.items(), key=lambda one: one[1])
        keys = [plain(names.axis(key)) for key, _ in ordered]
        bars = panel.barh(keys, [value for _, value in ordered], color=COLORS[0])
        panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        panel.set_xlim(0, 1)
        panel.set_ylim(-0.6, longest - 0.4)
        panel.set_title(plain(title), fontsize=9)
        panel.set_xlabel("importance")
        panel.grid(visible=False, axis="y")
    return figure
