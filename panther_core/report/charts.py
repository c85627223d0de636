"""Figures that the reports of versions and of replays share, and their axes in log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from panther_core.base.odds import log_odds
from panther_core.report.canvas import BLUE, GREY, draw, legend, percent
from panther_core.report.curves import Bin, wilson

_TICKS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99])


class Curve(NamedTuple):
    """Precision over recall of one scorer, and its recall and precision at the threshold in force."""

    name: str
    colour: str
    recall: list[float]
    precision: list[float]
    average_precision: float
    at_threshold: tuple[float, float] | None


def precision_recall(axes: Axes, curves: Sequence[Curve], chance: float, dot: str = "") -> None:
    """Curves with a dot at each threshold, named `dot` in the legend, and the precision of alerts at random."""
    for curve in curves:
        name = f"{curve.name}, AP {curve.average_precision:.3f}"
        axes.step(curve.recall, curve.precision, where="pre", color=curve.colour, label=name)
    for curve in curves:
        if curve.at_threshold:
            axes.plot(*curve.at_threshold, "o", ms=7, color=curve.colour, mec="white", label=dot)
    axes.axhline(chance, color=GREY, ls=":", lw=1.2, label="chance")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of fraud caught", ylabel="precision")
    percent(axes)


def reliability(measured: list[Bin]) -> str:
    """Observed fraud rate over predicted probability, with 95 % Wilson intervals, both in log-odds."""
    bins = [part for part in measured if part.rows]
    rows = np.array([part.rows for part in bins])
    frauds = np.array([part.frauds for part in bins])
    low, high = wilson(frauds, rows)
    x, y = log_odds(np.array([part.mean_score for part in bins])), log_odds(frauds / rows)
    bottom, top = log_odds(np.array([low[frauds > 0].min(initial=0.01) / 2, high.max()]))
    span = (float(min(bottom, x.min())) - 0.5, float(max(top, x.max())) + 0.5)

    def paint(figure: Figure) -> None:
        axes, some = figure.subplots(), frauds > 0
        axes.plot(span, span, color=GREY, ls=":", lw=1.2, label="calibrated")
        axes.vlines(x, np.maximum(log_odds(low), span[0]), log_odds(high), color=BLUE, lw=1)
        axes.plot(x[some], y[some], "o", color=BLUE, mec="white", ms=6, label="tenth of the rows, 95%")
        axes.plot(x[~some], np.full((~some).sum(), span[0]), "v", color=BLUE, mfc="white", ms=5, label="without fraud")
        axes.set(xlim=span, ylim=span, xlabel="mean score", ylabel="share that was fraud")
        odds_ticks(axes, "xy")
        legend(figure, axes)

    return draw(paint, (5.0, 3.6))


def odds_ticks(axes: Axes, which: str) -> None:
    """Ticks at round probabilities on axes of log-odds (`which`: "x", "y" or "xy"), at least a ninth of it apart."""
    for name in which:
        low, high = getattr(axes, f"get_{name}lim")()
        shown: dict[float, str] = {}
        for tick, at in zip(_TICKS.tolist(), log_odds(_TICKS).tolist(), strict=True):
            if low <= at <= high and at - max(shown, default=-np.inf) > (high - low) / 9:
                shown[at] = f"{tick * 100:g}%"
        getattr(axes, f"set_{name}ticks")(list(shown), list(shown.values()))
