"""report.html: a pure function of the Report. One file, readable offline, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from offline.report import changes
from offline.report import tables as sections
from offline.report.facts import Report
from offline.report.tables import Section
from panther_core.report.pages import document, paragraph, section, tiles
from panther_core.report.words import day, money

LABELLED = {
    "figures": ("Figures", sections.figures),
    "precision": ("Precision and recall", sections.curves),
    "budget": ("Recall against alert budget", sections.budget),
    "cards": ("100 users a day", sections.cards),
    "value": ("Money", sections.value),
    "detection": ("Time to detection", sections.detection),
    "calibration": ("Calibration", sections.calibration),
}
ALWAYS = {
    "alerts": ("Alerts per day", sections.alerts),
    "drift": ("Score drift", sections.drift),
    "slices": ("Slices", sections.slices),
    "reasons": ("Reasons", sections.reasons),
}
COMPARED = {"changes": ("What changes for whom", changes.changes)}
RUN = {"run": ("This run", changes.run)}


def render(report: Report) -> str:
    """The page as text."""
    shown: dict[str, tuple[str, Section]] = {}
    for part, there in (
        (LABELLED, sections.judged(report)),
        (ALWAYS, True),
        (COMPARED, report.comparisons),
        (RUN, True),
    ):
        shown |= part if there else {}
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in shown.items())
    parts = [section(name, title, make(report)) for name, (title, make) in shown.items()]
    title = f"Replay: {report.title}"
    return document(title, "".join([*_head(report, title), f"<nav>{links}</nav>", *parts]))


def _head(report: Report, title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    first, last = (day(time) for time in report.window)
    warm = (
        f" {report.warm_up:,} earlier transactions gave users their past and are not measured."
        if report.warm_up
        else ""
    )
    yield paragraph(
        f"{report.transactions:,} transactions of {report.users:,} users, {first} to {last}.{warm} What would have "
        "been decided by the very code that runs online, each event with the past it had.",
        soft=True,
    )
    yield paragraph(_labels(report), soft=True)
    for note in report.notes:
        yield paragraph(note, soft=True)
    if found := sections.judged(report):
        variant, worth = found[0]
        at = worth.metrics
        yield tiles(
            [
                ("average precision", f"{at['average_precision'].value:.3f}", variant.name),
                ("recall at 1% alerts", f"{at['recall_top_1pct'].value:.1%}", f"{report.frauds:,} frauds"),
                ("alerts that are fraud", f"{at['precision'].value:.1%}", f"{at['recall'].value:.1%} of fraud caught"),
                ("fraud money in alerts", f"{at['value_caught'].value:.1%}", f"{money(worth.caught_amount)} caught"),
                ("CP@100", f"{at['card_precision_100'].value:.1%}", f"{at['alerts_per_day'].value:,.1f} alerts a day"),
            ]
        )


def _labels(report: Report) -> str:
    if not report.labelled:
        return "No labels: what needs them is left out; give the replay --labels FILE to have it."
    if not sections.judged(report):
        return (
            f"{report.labelled:,} labels, {report.frauds:,} of them fraud: without both fraud and legitimate ones "
            "there is nothing to tell apart, and what needs them is left out."
        )
    late = (
        f" {report.not_arrived:,} of these labels would have arrived only after the log's end."
        if report.not_arrived
        else ""
    )
    return (
        f"{report.labelled:,} labelled, {report.frauds:,} frauds ({report.frauds / report.labelled:.3%}). No decision "
        f"knows a label; figures count the labels in hindsight, as at the log's end.{late}"
    )
