"""Figures of fraud scores; each takes what was measured and gives a data URI."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.report.canvas import BLUE, GREY, INK, ORANGE, draw, percent
from trainer.report.facts import Fraud
from trainer.report.fraud import log_odds

_COLOURS = (BLUE, ORANGE)
_TICKS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99])


def precision_recall(fraud: Fraud) -> str:
    """Precision over recall of each scorer, the alert threshold marked."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for scorer, colour in zip(fraud.scorers, _COLOURS, strict=True):
            name = f"{scorer.name}, AP {scorer.metrics['average_precision']:.3f}"
            axes.step(scorer.recall, scorer.precision, where="pre", color=colour, label=name)
        at = fraud.scorers[0].metrics
        axes.plot(at["recall"], at["precision"], "o", ms=7, color=BLUE, mec="white", label="alert threshold")
        axes.axhline(fraud.frauds / fraud.rows, color=GREY, ls=":", lw=1.2, label="chance")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of fraud caught", ylabel="precision")
        percent(axes)
        axes.legend(loc="upper right")

    return draw(paint)


def top_recall(fraud: Fraud) -> str:
    """Recall among the highest scores, with what so many rows could reach at most."""

    def paint(figure: Figure) -> None:
        axes, y = figure.subplots(), np.arange(len(fraud.top))
        axes.barh(y, [top.attainable for top in fraud.top], 0.8, color="none", ec=GREY, lw=1, label="most attainable")
        for i, (scorer, colour) in enumerate(zip(fraud.scorers, _COLOURS, strict=True)):
            recall = [scorer.metrics[f"recall_top_{top.share * 100:g}pct"] for top in fraud.top]
            bars = axes.barh(y + 0.3 * i - 0.15, recall, 0.28, color=colour, label=scorer.name)
            axes.bar_label(bars, [f"{value:.1%}" for value in recall], padding=3, color=INK)
        axes.set_yticks(y, [f"top {top.share:.2%}\n{top.rows:,} rows" for top in fraud.top])
        axes.set(xlim=(0, 1.1), xlabel="recall: share of fraud caught")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        percent(axes, "x")
        figure.legend(loc="outside lower center", ncols=3)

    return draw(paint)


def reliability(fraud: Fraud) -> str:
    """Observed fraud rate over predicted probability, with 95 % Wilson intervals, both in log-odds."""
    bins = [part for part in fraud.bins if part.rows]
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
        _odds_ticks(axes, "xy")
        axes.legend(loc="upper left")

    return draw(paint, (5.0, 3.6))


def wilson(hits: NDArray[np.int64], count: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of a share (Wilson 1927)."""
    z2, p = 1.96**2, hits / count
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * np.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return np.maximum(middle - half, 0), middle + half


def histogram(fraud: Fraud) -> str:
    """Share of each class by score, the threshold marked."""
    edges = log_odds(np.array(fraud.histogram.edges))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        classes = (("legitimate", fraud.histogram.legitimate, GREY), ("fraud", fraud.histogram.fraud, ORANGE))
        for name, counts, colour in classes:
            total = max(1, sum(counts))
            axes.stairs(
                np.array(counts) / total, edges, fill=True, color=colour, alpha=0.45, label=f"{name}, {total:,}"
            )
        at = float(log_odds(np.array([fraud.threshold]))[0])
        axes.axvline(at, color=BLUE, lw=1.2, label="alert threshold")
        axes.set(xlabel="score", ylabel="share of the class")
        _odds_ticks(axes, "x")
        percent(axes, "y")
        figure.legend(loc="outside lower center", ncols=3)

    return draw(paint)


def _odds_ticks(axes: Axes, which: str) -> None:
    """Ticks at round probabilities on axes of log-odds, as many as have room."""
    for name in which:
        low, high = getattr(axes, f"get_{name}lim")()
        shown: dict[float, str] = {}
        for tick, at in zip(_TICKS.tolist(), log_odds(_TICKS).tolist(), strict=True):
            if low <= at <= high and at - max(shown, default=-np.inf) > (high - low) / 9:
                shown[at] = f"{tick * 100:g}%"
        getattr(axes, f"set_{name}ticks")(list(shown), list(shown.values()))
