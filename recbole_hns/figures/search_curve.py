"""What a search came to over its time: every trial, and the best so far."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recbole_hns.figures import names
from recbole_hns.figures.style import COLORS, explain, fit, plain, styled


@styled
def draw(trials: pd.DataFrame, metric: str, bigger: bool) -> Figure:
    """Draw each trial's best validation score where it ended, and the best of all so far.

    Args:
        trials: ended trials, with columns ``seconds``, of the search, ``score`` and ``status``.
        metric: key of the metric, such as ``ndcg@10``.
        bigger: whether a larger score is better.
    """
    trials = trials.sort_values("seconds", kind="stable")
    minutes = trials["seconds"].to_numpy(float) / 60
    score = trials["score"].to_numpy(float)
    best = np.maximum.accumulate(score) if bigger else np.minimum.accumulate(score)
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    panel = figure.subplots()
    panel.step(minutes, best, where="post", color=COLORS[0], label="best so far")
    finished = (trials["status"] == "finished").to_numpy()
    for kind, label, marker, color in (
        (finished, "trial that came to its end", "o", COLORS[0]),
        (~finished, "trial that was ended early", "x", COLORS[1]),
    ):
        panel.plot(minutes[kind], score[kind], marker, color=color, label=label)
    panel.set_xlabel("minutes of the search")
    panel.set_ylabel(plain(f"validation {names.metric(metric)}"))
    panel.set_xlim(left=0)
    notes = fit(panel, [np.column_stack([minutes, best])])
    low, high = panel.get_ylim()
    panel.set_ylim(
        min(low, np.nanmin(score, initial=low)), max(high, np.nanmax(score, initial=high))
    )
    explain(figure, panel.get_legend_handles_labels()[0], notes)
    return figure
