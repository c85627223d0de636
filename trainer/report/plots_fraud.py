"""Figures of fraud scores; each takes what was measured and gives a data URI."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from panther_core.base.odds import log_odds
from panther_core.report import charts
from panther_core.report.canvas import BLUE, GREEN, GREY, INK, ORANGE, draw, legend, percent
from trainer.report.facts import Fraud

_COLOURS = (BLUE, ORANGE, GREEN, GREY, INK)  # one for each scorer


def precision_recall(fraud: Fraud) -> str:
    """Precision over recall of each scorer, the alert threshold of the model marked."""
    curves = [
        charts.Curve(scorer.name, colour, scorer.recall, scorer.precision, scorer.metrics["average_precision"], None)
        for scorer, colour in zip(fraud.scorers, _COLOURS, strict=True)
    ]
    model = fraud.scorers[0].metrics
    curves[0] = curves[0]._replace(at_threshold=(model["recall"], model["precision"]))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        charts.precision_recall(axes, curves, fraud.frauds / fraud.rows, "alert threshold")
        legend(figure, axes, 2)

    return draw(paint, (5.0, 3.9))


def top_recall(fraud: Fraud) -> str:
    """Recall among the highest scores, with what so many rows could reach at most."""

    def paint(figure: Figure) -> None:
        axes, y = figure.subplots(), np.arange(len(fraud.top))
        axes.barh(y, [top.attainable for top in fraud.top], 0.8, color="none", ec=GREY, lw=1, label="most attainable")
        height = 0.8 / len(fraud.scorers)
        for i, (scorer, colour) in enumerate(zip(fraud.scorers, _COLOURS, strict=True)):
            recall = [scorer.metrics[f"recall_top_{top.share * 100:g}pct"] for top in fraud.top]
            bars = axes.barh(y + height * i - 0.4 + height / 2, recall, 0.9 * height, color=colour, label=scorer.name)
            axes.bar_label(bars, [f"{value:.1%}" for value in recall], padding=3, color=INK)
        axes.set_yticks(y, [f"top {top.share:.2%}\n{top.rows:,} rows" for top in fraud.top])
        axes.set(xlim=(0, 1.1), xlabel="recall: share of fraud caught")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        percent(axes, "x")
        legend(figure, axes)

    return draw(paint)


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
        charts.odds_ticks(axes, "x")
        percent(axes, "y")
        legend(figure, axes)

    return draw(paint)
