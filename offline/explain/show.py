"""A user on the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from offline.explain.view import ShownDecision, UserView, behaviour
from panther_core.base.console import console
from panther_core.report.words import odds

_LABELS = {1: "fraud", 0: "legitimate", -1: ""}


def show(view: UserView) -> None:
    """Print the last events, then the newest one at length."""
    console.print(Text(f"{view.user_id}: {view.source}; {view.model}", style="bold"))
    table = Table(show_edge=False, pad_edge=False)
    for name in ("time", "came", "score", "", "strongest reason", "label"):
        table.add_column(name, justify="right" if name == "score" else "left")
    for event in view.events:
        why = event.reasons[0].code if event.reasons else ""
        mark = "ALERT" if event.alert else ""
        table.add_row(
            *(Text(cell) for cell in (event.when, event.came, f"{event.score:.3%}", mark, why, _LABELS[event.label]))
        )
    console.print(table)
    if view.events:
        _at_length(view.events[-1])
    if view.next:
        _behaviours("Expected next:", [behaviour(each) for each in view.next])


def _at_length(event: ShownDecision) -> None:
    console.print(Text(f"\n{event.when}  {event.transaction_id}  {event.came}", style="bold"))
    verdict = "alert" if event.alert else "no alert"
    notes = "".join(f", {note}" for note in event.notes)
    console.print(
        Text(
            f"score {event.score:.4%} against a threshold of {event.threshold:.4%}: {verdict}; "
            f"{event.history_len:,} earlier events, model version {event.model_version}{notes}"
        )
    )
    _behaviours("Expected:", [behaviour(each) for each in event.expected] or ["nothing: no history"])
    if event.reasons:
        console.print(
            Text("What raised the score:" if event.alert else "Evidence, by the rules (no alert, not explained):")
        )
    for reason in event.reasons:
        console.print(Text(f"  odds of fraud {odds(reason.contribution):>16}  {reason.code}  {reason.description}"))


def _behaviours(title: str, lines: list[str]) -> None:
    console.print(Text(title))
    for line in lines:
        console.print(Text(f"  {line}"))
