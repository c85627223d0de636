"""A user as one self-contained HTML page."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from offline.explain.view import Seen, UserView, behaviour
from panther_core.report.canvas import BLUE, GREY, ORANGE, draw
from panther_core.report.charts import odds_ticks
from panther_core.report.curves import log_odds
from panther_core.report.pages import document, figure, paragraph, section, table

_LABELS = {1: "fraud", 0: "legitimate", -1: "unknown"}


def write_page(path: Path, view: UserView) -> None:
    """Draw the user into `path`; after an error what was there is there still."""
    text = render(view)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def render(view: UserView) -> str:
    """The page as text."""
    title = f"User {view.user_id}"
    parts = [f"<h1>{escape(title)}</h1>", paragraph(f"{view.source}; {view.model}.", soft=True)]
    if view.events:
        parts += [
            figure(
                _scores(view.events),
                "Scores of the user's last events",
                "A filled dot is an alert; the line is the threshold, a shaded event was fraud.",
            ),
            table(
                ["time", "came", "score", "", "strongest reason", "label"],
                [
                    [e.when, e.came, f"{e.score:.3%}", "alert" if e.alert else "", _first(e), _LABELS[e.label]]
                    for e in view.events
                ],
                words=True,
            ),
            *(section(f"event-{i}", e.when, _event(e)) for i, e in enumerate(reversed(view.events))),
        ]
    if view.next:
        parts.append(
            section("next", "Expected next", [table(["likeliest first"], [[behaviour(e)] for e in view.next])])
        )
    return document(title, "".join(parts))


def _first(event: Seen) -> str:
    return event.reasons[0].code if event.reasons else ""


def _event(event: Seen) -> list[str]:
    notes = "".join(f", {note}" for note in event.notes)
    parts = [
        paragraph(f"{event.transaction_id}: {event.came}."),
        paragraph(
            f"Score {event.score:.4%}, threshold {event.threshold:.4%}: {'alert' if event.alert else 'no alert'}. "
            f"{event.history_len:,} earlier events, model version {event.model_version}{notes}."
        ),
    ]
    if event.expected:
        parts.append(table(["expected, likeliest first"], [[behaviour(each)] for each in event.expected]))
    if event.reasons:
        rows = [[r.code, f"{r.contribution:+.2f} nats", r.description] for r in event.reasons]
        parts.append(
            table(["reason", "raised the score by" if event.alert else "evidence, by the rules", ""], rows, words=True)
        )
    return parts


def _scores(events: list[Seen]) -> str:
    y = log_odds(np.array([event.score for event in events]))
    alert = np.array([event.alert for event in events])
    limit = log_odds(np.array([event.threshold for event in events]))

    def paint(figure: Figure) -> None:
        axes, x = figure.subplots(), np.arange(len(events))
        for at in (i for i, event in enumerate(events) if event.label == 1):
            axes.axvspan(at - 0.4, at + 0.4, color=ORANGE, alpha=0.12, lw=0)
        axes.step(x, limit, where="mid", color=GREY, ls="--", lw=1.2)
        axes.plot(x, y, color=BLUE, lw=1)
        axes.plot(x[alert], y[alert], "o", ms=8, color=ORANGE, mec="white")
        axes.plot(x[~alert], y[~alert], "o", ms=5, color=BLUE, mfc="white")
        axes.set(xlim=(-0.5, len(x) - 0.5), ylabel="score")
        axes.set_xticks(x, [event.when.replace(" ", "\n", 1) for event in events], fontsize=7)
        odds_ticks(axes, "y")

    return draw(paint, (6.0, 2.6))
