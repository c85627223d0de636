"""`panther topics`: the topics of the application."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import Json, answering_kafka
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings

app = typer.Typer(no_args_is_help=True, help="Topics of the application.")


@app.command()
def create(
    check: Annotated[bool, typer.Option("--check", help="Make nothing; exit code 1 where partitions differ.")] = False,
    as_json: Json = False,
) -> None:
    """Make the topics that are missing. Existing ones are never changed; what differs is said, and how to mend it."""
    from infra.create_topics import check_topics, create_topics

    kafka, settings = answering_kafka(), PantherSettings()
    if not check:
        made = asyncio.run(create_topics(kafka, settings))
    checked = asyncio.run(check_topics(kafka, settings))
    for line in (*checked.wrong, *checked.differs):
        say(f"[yellow]differs[/] {escape(line)}")
    emit({"ok": not checked.wrong, "wrong": checked.wrong, "differs": checked.differs} if check else made, as_json)
    if checked.wrong and check:
        raise typer.Exit(1)
    lead_on("panther models train --data PATH --out build/models/1, or panther models list", as_json)


@app.command()
def describe() -> None:
    """The topics and their records as an AsyncAPI document, on stdout."""
    from infra.asyncapi import document

    sys.stdout.write(json.dumps(document(), indent=1) + "\n")
