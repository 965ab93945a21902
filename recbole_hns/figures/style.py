"""What all figures share: looks, distinguishable lines, and files in PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.figure import Figure

from recbole_hns.files import replace_file

Parameters = ParamSpec("Parameters")

#: The palette of Okabe and Ito, which colour-blind readers can tell apart, without its yellow,
#: which is faint on paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")

#: As many dashes and markers as share no factor with the number of colours: 28 distinct lines.
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "X", "P", "*", "<", ">")

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
