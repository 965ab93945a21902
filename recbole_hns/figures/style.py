"""What all figures share: looks, distinguishable lines, and files in PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from recbole_hns.files import replace_file

Parameters = ParamSpec("Parameters")

#: The palette of Okabe and Ito, which colour-blind readers can tell apart, without its yellow,
#: which is faint on paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")

#: As many dashes and markers as share no factor with the number of colours: 28 distinct lines.
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "X", "P", "*", "<", ">")

#: An axis spans at least this share of the largest value on it: a difference of 1% is at most 4% of
#: its height.
LEAST_SPAN = 0.25

#: What a figure says of that.
SPAN_NOTE = "an axis spans at least a quarter of its largest value"

#: A point of the first half of a line is left out of an axis if it is farther from the second
#: halves than this many times their height.
FAR = 2.0

#: Marks are explained in the legend, in no line's colour.
NEUTRAL = "#666666"

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    # hollow, so that lines on top of each other stay visible
    "markers.fillstyle": "none",
    # TrueType: publishers refuse matplotlib's default, Type 3
    "pdf.fonttype": 42,
}


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorator of a function that makes a figure: it works in the shared style."""

    @wraps(draw)
    def draw_styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def line_styles() -> Iterator[dict[str, Any]]:
    """Colour, dashes and marker for one line after another, all three differing at first."""
    for color, dashes, marker in zip(cycle(COLORS), cycle(DASHES), cycle(MARKERS), strict=False):
        yield {"color": color, "linestyle": dashes, "marker": marker}


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where an axis with some values begins and ends, by :data:`LEAST_SPAN`, without a margin."""
    low, high = float(values.min()), float(values.max())
    missing = LEAST_SPAN * max(abs(low), abs(high)) - (high - low)
    return (low - missing / 2, high + missing / 2) if missing > 0 else (low, high)


def fit(panel: Axes, lines: Sequence[NDArray[np.float64]], early: bool = False) -> list[Artist]:
    """Limit a panel's y-axis so that it neither magnifies nor is squeezed, and mark what is beyond.

    Args:
        panel: the panel.
        lines: its lines in the order of :func:`line_styles`, each ``[points, 2 or more]``: x, y,
            and what else has to be inside where y is.
        early: whether the first half of a line may have points far from the rest, by :data:`FAR`,
            which are then marked at the edge.

    Returns:
        What a legend has to explain.
    """
    lines = [line[np.isfinite(line).all(axis=1)] for line in lines]
    rest = [line[len(line) // 2 if early else 0 :, 1:].ravel() for line in lines]
    if not sum(map(len, rest)):
        return []
    low, high = limits(np.concatenate(rest))
    far = FAR * (high - low)
    near = [line[(low - far <= line[:, 1]) & (line[:, 1] <= high + far), 1:] for line in lines]
    values = np.concatenate([*rest, *(part.ravel() for part in near)])
    low, high = limits(values)
    margin = 0.05 * (high - low) or 0.05
    low, high = low - margin, high + margin
    panel.set_ylim(low, high)
    notes: list[Artist] = []
    for number, (line, style) in enumerate(zip(lines, line_styles(), strict=False)):
        # the later ones smaller, as they are drawn over those before
        for marker, edge, beyond in (
            ("^", high, line[line[:, 1] > high, 0]),
            ("v", low, line[line[:, 1] < low, 0]),
        ):
            if len(beyond):
                edges = np.full(len(beyond), edge)
                look = {"color": style["color"], "fillstyle": "full", "ms": max(3, 9 - 2 * number)}
                panel.plot(beyond, edges, marker, **look, clip_on=False, zorder=3)
                notes = [mark_note("^", "beyond the axis")]
    if np.ptp(values) < LEAST_SPAN * np.abs(values).max():
        notes.append(Patch(visible=False, label=SPAN_NOTE))
    return notes


def mark_note(marker: str, label: str) -> Line2D:
    """What a filled marker says, for a legend."""
    return Line2D(
        [], [], color=NEUTRAL, linestyle="none", marker=marker, fillstyle="full", label=label
    )


def explain(figure: Figure, handles: Sequence[Artist], notes: Sequence[Artist]) -> None:
    """Put a legend under the panels: lines, then what marks say, each once.

    The figure grows by its rows.
    """
    unique = {str(note.get_label()): note for note in notes}
    # a sentence, which no mark goes with
    title = "".join(label for label, note in unique.items() if not note.get_visible())
    shown = [*handles, *(note for note in unique.values() if note.get_visible())]
    widest = max((len(str(handle.get_label())) for handle in shown), default=0)
    width, height = figure.get_size_inches()
    columns = max(1, min(len(shown), int(12.5 * width) // (8 + widest)))
    rows = -(-len(shown) // columns) + bool(title)
    figure.set_size_inches(width, height + 0.2 * rows)
    legend = figure.legend(
        handles=shown,
        loc="outside lower center",
        ncols=columns,
        title=title or None,
        title_fontsize=8,
    )
    legend.get_title().set_color(NEUTRAL)


def plain(text: str) -> str:
    """``text`` such that matplotlib shows it as it is: between dollar signs it reads formulas."""
    return text.replace("$", r"\$")


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write a figure as ``name.png`` and ``name.pdf``; the same figure gives the same bytes.

    Returns:
        The two paths.
    """
    # a PDF would hold the time of writing
    metadata = {"png": None, "pdf": {"CreationDate": None}}
    paths = []
    for kind in metadata:
        path = directory / f"{name}.{kind}"
        with rc_context(STYLE):
            write = partial(figure.savefig, format=kind, dpi=200, metadata=metadata[kind])
            replace_file(path, write)
        paths.append(path)
    return paths
