"""`panther alerts`: the alerts, a line each."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import WORK_ALERTS, answering_kafka, moment_ms
from panther_core.base.console import say

app = typer.Typer()


@app.command(rich_help_panel=WORK_ALERTS)
def alerts(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with those that come, until Ctrl-C.")] = False,
    user: Annotated[str | None, typer.Option(help="Of this user alone.")] = None,
    since: Annotated[str | None, typer.Option(help="Payments from then on, YYYY-MM-DD or ISO 8601.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="With at least this score.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="The alerts as they are, a JSON object a line.")] = False,
) -> None:
    """Alerts a line each: time, what was paid, merchant, user, score, two reasons."""
    from panther_core.data.topics import ALERTS
    from panther_core.decide.records import to_json
    from panther_core.kafka.answers import Skipped
    from stream.tools import alerts as tool

    wanted = tool.Wanted(user, 0 if since is None else moment_ms("--since", since), min_score, follow)
    kafka, skipped = answering_kafka(), Skipped(ALERTS)

    async def show() -> int:
        shown = 0
        async for alert in tool.alerts(kafka, wanted, skipped):
            shown += 1
            sys.stdout.write(to_json(alert).decode() + "\n" if as_json else escape_controls(tool.line_of(alert)) + "\n")
            sys.stdout.flush()
        return shown

    with contextlib.suppress(KeyboardInterrupt):
        shown = asyncio.run(show())
        if not as_json:
            after = "next: panther explain --alert PAYMENT, panther label PAYMENT fraud (or honest)"
            none = "no score reached the live version's threshold (panther models list), or none fits the options"
            say(f"{shown:,} alerts; {after if shown else none}")
    if skipped.count:
        say(escape(f"  {skipped}"))


def escape_controls(text: str) -> str:
    """The text without signs that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
