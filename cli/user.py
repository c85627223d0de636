"""`panther user`: begin one user's state anew, forget the user, or give users their past before going live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import DATA, End, Format, Json, Limit, Start, answering_kafka
from panther_core.base.console import emit, lead_on
from panther_core.base.settings import PantherSettings

app = typer.Typer(no_args_is_help=True, help="Repair or forget one user, or load a past (docs/operations.md).")

User = Annotated[str, typer.Argument(help="User id.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait until all workers have done it; 0 = none.", min=0)]


@app.command()
def reset(user: User, wait: Wait = 0, as_json: Json = False) -> None:
    """Begin the user's state anew: the next transaction is their first. For a state that a wrong event has spoilt."""
    _command(user, "reset", wait, as_json)


@app.command()
def forget(user: User, wait: Wait = 0, as_json: Json = False) -> None:
    """Reset, and delete the decisions held for copies too. What stands on the topics stays until their retention."""
    _command(user, "forget", wait, as_json)


@app.command()
def load(
    data: Annotated[Path, DATA],
    format: Format = None,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    after_topic: Annotated[
        bool, typer.Option("--after-topic", help="The data hold what `transactions` holds: begin after it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give users their past from a file, before the first worker of a new application starts."""
    from panther_core.data.formats import format_of, read_table
    from stream.tools.seed import load_past

    format, kafka = format_of(format, data), answering_kafka()
    log = read_table(format, data, start=start, end=end, limit=limit)
    users = asyncio.run(load_past(kafka, PantherSettings(), log, after_topic))
    emit({"users": users, "transactions": len(log)}, as_json)
    lead_on("panther merchants, panther worker", as_json)


def _command(user: str, command: Literal["reset", "forget"], wait_s: float, as_json: bool) -> None:
    from stream.tools.user import command_user

    asked = asyncio.run(command_user(answering_kafka(), PantherSettings(), user, command, wait_s))
    emit({"command": command, "partitions": asked, "done": wait_s > 0}, as_json)
    lead_on(f"panther explain {user} --live", as_json)
