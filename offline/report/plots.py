"""Figures of a replay's report; each function draws a part of the report and returns a data URI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from offline.report.facts import Day, ReplayReport, Timeline, Variant, Week
from panther_core.base.odds import log_odds
from panther_core.base.times import DAY_MS
from panther_core.evaluation import TOP_SHARES
from panther_core.report import charts
from panther_core.report.canvas import BLUE, GREEN, GREY, GROUPS, ORANGE, draw, label, legend, percent

COLOURS = (BLUE, ORANGE, GREEN, *GROUPS[3:])


def coloured(variants: Sequence[Variant]) -> list[tuple[Variant, str]]:
    """Each variant with its colour, the same in every figure."""
    return [(variant, COLOURS[i % len(COLOURS)]) for i, variant in enumerate(variants)]


def precision_recall(report: ReplayReport) -> str:
    """Precision over recall of each variant, its threshold marked."""
    curves = [
        charts.Curve(
            label(variant.name),
            colour,
            worth.recall,
            worth.precision,
            worth.metrics["average_precision"].value,
            (worth.metrics["recall"].value, worth.metrics["precision"].value),
        )
        for variant, colour in coloured(report.variants)
        if (worth := variant.worth)
    ]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        charts.precision_recall(axes, curves, report.frauds / report.labelled)
        legend(figure, axes)

    return draw(paint, (5.0, 3.4))


def budgets(report: ReplayReport) -> str:
    """Recall over the share of transactions alerted, 0.01, 0.1 and 1 % marked."""
    rate = report.frauds / report.labelled

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant, colour in coloured(report.variants):
            if worth := variant.worth:
                recall, precision = np.array(worth.recall), np.array(worth.precision)
                some = precision > 0
                axes.plot(recall[some] * rate / precision[some], recall[some], color=colour, label=label(variant.name))
                marks = [worth.metrics[f"recall_top_{share * 100:g}pct"].value for share in TOP_SHARES]
                axes.plot(TOP_SHARES, marks, "o", ms=5, color=colour, mec="white")
        ideal = np.geomspace(5e-5, 1, 200)
        axes.plot(ideal, np.minimum(1, ideal / rate), color=GREY, ls=":", lw=1.2, label="most attainable")
        axes.set(xscale="log", xlim=(5e-5, 1), ylim=(0, 1.02))
        axes.set(xlabel="share of transactions that alert", ylabel="recall")
        axes.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.01%", "0.1%", "1%", "10%", "100%"])
        percent(axes, "y")
        legend(figure, axes)

    return draw(paint, (5.0, 3.4))


def alerts_by_day(report: ReplayReport) -> str:
    """Alerts of each variant by day."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant, colour in coloured(report.variants):
            axes.plot(
                _dates(variant.days), [day.alerts for day in variant.days], color=colour, label=label(variant.name)
            )
        if report.frauds:
            days = report.variants[0].days
            axes.plot(_dates(days), [day.frauds for day in days], color=GREY, ls=":", lw=1.2, label="frauds")
        axes.set(ylabel="a day", ylim=(0, None))
        _calendar(axes)
        legend(figure, axes)

    return draw(paint)


def cards_by_day(report: ReplayReport) -> str:
    """CP@100 of each variant by day."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant, colour in coloured(report.variants):
            days = [day for day in variant.days if day.cards is not None]
            axes.plot(_dates(days), [day.cards or 0.0 for day in days], color=colour, label=label(variant.name))
        axes.set(ylabel="frauds among 100 users", ylim=(0, None))
        percent(axes, "y")
        _calendar(axes)
        legend(figure, axes)

    return draw(paint, (5.0, 2.6))


def detection(report: ReplayReport) -> str:
    """Share of defrauded users found, over the hours since their first fraud."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant, colour in coloured(report.variants):
            if variant.worth and variant.worth.detection.hours:
                found = variant.worth.detection
                last = max(found.hours[-1], 24.0 * 28)
                x, y = [*found.hours, last], [*found.share, found.share[-1]]
                axes.step(x, y, where="post", color=colour, label=label(variant.name))
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 6, 24, 168, 672], ["at once", "1 h", "6 h", "1 d", "7 d", "28 d"])
        axes.minorticks_off()
        axes.set(xlim=(0, 24 * 40), ylim=(0, 1.02), xlabel="since the user's first fraud", ylabel="users found")
        percent(axes, "y")
        legend(figure, axes)

    return draw(paint)


def drift(report: ReplayReport) -> str:
    """Stability index by week."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant, colour in coloured(report.variants):
            psi = [week.psi for week in variant.weeks]
            axes.plot(_dates(variant.weeks), psi, "o-", ms=4, color=colour, label=label(variant.name))
        top = max(0.3, 1.1 * max(week.psi for variant in report.variants for week in variant.weeks))
        axes.axhline(0.1, color=GREY, ls=":", lw=1.2)
        axes.axhline(0.25, color=GREY, ls="--", lw=1.2)
        axes.set(ylim=(0, top), ylabel="PSI against the first week")
        _calendar(axes)
        legend(figure, axes)

    return draw(paint, (5.0, 2.6))


def timeline(line: Timeline, names: tuple[str, str]) -> str:
    """Scores of a user's last events by both variants, alerts filled."""

    def paint(figure: Figure) -> None:
        axes, x = figure.subplots(), np.arange(len(line.events))
        for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            y = log_odds(np.array([event.scores[i] for event in line.events]))
            alert = np.array([event.alerts[i] for event in line.events])
            axes.plot(x, y, color=colour, lw=1, label=label(name))
            axes.plot(x[alert], y[alert], "o", ms=7, color=colour, mec="white")
            axes.plot(x[~alert], y[~alert], "o", ms=5, color=colour, mfc="white")
        for at in np.flatnonzero([event.label == 1 for event in line.events]).tolist():
            axes.axvspan(at - 0.4, at + 0.4, color=ORANGE, alpha=0.12, lw=0)
        axes.set(xlim=(-0.5, len(x) - 0.5), ylabel="score")
        axes.set_xticks(x, [datetime.fromtimestamp(e.time / 1000, UTC).strftime("%d %b\n%H:%M") for e in line.events])
        charts.odds_ticks(axes, "y")
        legend(figure, axes)

    return draw(paint, (5.0, 2.2))


def _dates(rows: Sequence[Day] | Sequence[Week]) -> NDArray[np.float64]:
    """Days since 1970, as matplotlib has them."""
    return np.array([row.time / DAY_MS for row in rows])


def _calendar(axes: Axes) -> None:
    ticks = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(ticks)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(ticks))  # type: ignore[no-untyped-call]
