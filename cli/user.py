"""`panther user`: begin one user's state anew, or forget the user."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer

from cli.options import Json, answering_kafka
from panther_core.base.console import emit
from panther_core.base.settings import PantherSettings

app = typer.Typer(no_args_is_help=True, help="Repair or forget one user (docs/operations.md).")

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


def _command(user: str, command: Literal["reset", "forget"], wait_s: float, as_json: bool) -> None:
    from stream.tools.user import command_user

    asked = asyncio.run(command_user(answering_kafka(), PantherSettings(), user, command, wait_s))
    emit({"command": command, "partitions": asked, "done": wait_s > 0}, as_json)
