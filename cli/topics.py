"""`panther topics`: the topics of the application."""

from __future__ import annotations

import asyncio
import json
import sys

import typer

from cli.options import Json, answering_kafka
from panther_core.base.console import emit
from panther_core.base.settings import PantherSettings

app = typer.Typer(no_args_is_help=True, help="Topics of the application.")


@app.command()
def create(as_json: Json = False) -> None:
    """Make the topics that are missing; existing ones are checked, never changed."""
    from infra.create_topics import create_topics

    emit(asyncio.run(create_topics(answering_kafka(), PantherSettings())), as_json)


@app.command()
def describe() -> None:
    """The topics and their records as an AsyncAPI document, on stdout."""
    from infra.asyncapi import document

    sys.stdout.write(json.dumps(document(), indent=1) + "\n")
