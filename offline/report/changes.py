"""The part of the page that compares: what changes, and for whom; and what the runs depended on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from offline.report import plots
from offline.report.facts import METRICS, Comparison, Event, Figure, Metric, Report, Timeline
from panther_core.report.pages import figure, paragraph, table
from panther_core.report.words import minute, money

_WORDS = {1: "fraud", 0: "", -1: "unknown"}


def changes(report: Report) -> Iterator[str]:
    """Each variant against the first."""
    for comparison in report.comparisons:
        yield from _comparison(report, comparison)


def _comparison(report: Report, found: Comparison) -> Iterator[str]:
    yield paragraph(f"{found.second} against {found.first}")
    if found.differences:
        yield table(
            [f"{found.second} less {found.first}", "difference", "95%", ""],
            [_difference(metric, found.differences[metric.name]) for metric in METRICS],
        )
        yield paragraph(
            f"Both on the same {report.resamples} resamples; an interval that holds 0 means that this log does not "
            "tell the two apart.",
            soft=True,
        )
    yield table(
        ["alerts", "", "users", "labelled", "fraud", "fraud amount"],
        [
            [g.name, f"{g.alerts:,}", f"{g.users:,}", f"{g.labelled:,}", f"{g.frauds:,}", money(g.fraud_amount)]
            for g in found.groups
        ],
    )
    if not found.users:
        yield paragraph("No alert changes.")
        return
    names = found.first, found.second
    yield paragraph("Users with the most alerts that one gives and the other does not:")
    yield table(
        [
            "user",
            "transactions",
            *(f"alerts, {name}" for name in names),
            "frauds",
            *(f"caught, {name}" for name in names),
            "score moved",
        ],
        [
            [
                user.user_id,
                f"{user.transactions:,}",
                *(f"{count:,}" for count in user.alerts),
                f"{user.frauds:,}",
                *(f"{count:,}" for count in user.caught),
                f"{user.largest:+.1f} nats",
            ]
            for user in found.users
        ],
    )
    yield paragraph(
        "The alerts that changed most, one a user, with the events before them. In the figures a filled dot is an "
        "alert, a shaded event was fraud."
    )
    for line in found.timelines:
        yield from _timeline(line, names)


def _difference(metric: Metric, found: Figure) -> list[str]:
    def shown(value: float) -> str:
        if metric.share:
            return f"{round(100 * value, 1) + 0.0:+.1f} points"  # never -0.0
        digits = 1 if metric.name == "alerts_per_day" else 3
        return f"{round(value, digits) + 0.0:+,.{digits}f}"

    verdict = "not told apart" if found.low <= 0 <= found.high else "beyond chance"
    if found.value == found.low == found.high == 0:
        return [metric.title, "none", "", ""]
    return [metric.title, shown(found.value), f"{shown(found.low)} to {shown(found.high)}", verdict]


def _timeline(line: Timeline, names: tuple[str, str]) -> Iterator[str]:
    last = line.events[-1]
    who = names[0] if last.alerts[0] else names[1]
    yield figure(
        plots.timeline(line, names),
        f"Scores of the last events of user {line.user_id}",
        f"User {line.user_id}, transaction {line.changed}: an alert of {who} only.",
    )
    yield table(
        ["time", "amount", *names, "was", "category", "reasons", "channel", "merchant"],
        [_event(event) for event in line.events],
        words=True,
    )


def _event(event: Event) -> list[str]:
    scores = [f"{score:.2%}{' ●' if alert else ''}" for score, alert in zip(event.scores, event.alerts, strict=True)]
    own = event.reasons[0] if event.alerts[0] else event.reasons[1]
    why = ", ".join(own) if any(event.alerts) else ""
    return [
        minute(event.time),
        f"{event.amount:,.2f}",
        *scores,
        _WORDS[event.label],
        event.category,
        why,
        event.channel,
        event.merchant_id,
    ]


def _fact(found: Any) -> str:
    """A value of the manifest; of checksums the beginning, report.json has the whole."""
    if isinstance(found, dict):
        return ", ".join(f"{name} {_fact(value)}" for name, value in found.items())
    text = found if isinstance(found, str) else json.dumps(found)
    return text[:12] if len(text) == 64 else text


def run(report: Report) -> Iterator[str]:
    """The manifest of each run."""
    yield paragraph(
        "What the decisions depended on: the same inputs give the same bytes on the same machine. Checksums are cut to "
        "12 digits here; report.json has them whole."
    )
    for manifest in report.runs:
        rows = []
        for name, found in manifest.items():
            for part in found if isinstance(found, list) and found and isinstance(found[0], dict) else [found]:
                rows.append([name.replace("_", " "), _fact(part)])
        yield table(["", ""], rows, words=True)
