"""How figures look, and how a figure becomes text for the page: SVG in a data URI, letters as paths.

The same figure gives the same bytes: the SVG has no date and its identifiers have a fixed salt. No pyplot, so figures
have no global state and need no display. matplotlib takes a second to import: only modules that draw import this one.
"""

from __future__ import annotations

import base64
import io
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: colours that can be told apart without colour vision too (Okabe and Ito 2008), darkened for thin lines
INK, GREY, FAINT = "#22272e", "#8a9099", "#e3e6ea"
BLUE, ORANGE, GREEN = "#0a64a4", "#c2610c", "#00775a"
GROUPS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e0a800", "#56b4e9", "#5b3f8c", "#a6a9ad")
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "panther",
    "text.parse_math": False,  # a category may be called "$x$"
    "path.simplify": True,
}
NARROW, WIDE = (5.0, 3.0), (7.2, 4.2)


def draw(paint: Callable[[Figure], None], size: tuple[float, float] = NARROW) -> str:
    """Let `paint` draw on an empty figure of `size` inches; the result as a data URI of an SVG."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
        figure, out = Figure(figsize=size, layout="constrained"), io.BytesIO()
        paint(figure)
        # no ground of its own: on a dark page its colours are turned (style.css)
        figure.savefig(out, format="svg", dpi=150, transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def label(text: str, most: int = 48) -> str:
    """Words of the data as a figure can show them: control characters replaced, cut to `most` characters."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def legend(figure: Figure, axes: Axes, ncols: int = 3) -> None:
    """What the signs of the axes stand for, below them: within, it would hide curves."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=min(ncols, len(names)), labelcolor=INK)


def percent(axes: Axes, which: str = "xy") -> None:
    """Ticks of shares in per cent."""
    from matplotlib.ticker import PercentFormatter

    for name in which:
        getattr(axes, f"{name}axis").set_major_formatter(PercentFormatter(1.0))
