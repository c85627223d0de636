"""`panther ingest`: transactions and labels from Kafka to Parquet files."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import TRAIN_AND_DEPLOY, Json, answering_kafka
from panther_core.base.console import emit, say
from panther_core.base.settings import PantherSettings

app = typer.Typer()


@app.command(rich_help_panel=TRAIN_AND_DEPLOY, short_help="Transactions and labels from Kafka to Parquet files.")
def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder of the log.", file_okay=False)],
    once: Annotated[bool, typer.Option("--once", help="Up to the topics' ends as of now.")] = False,
    rows: Annotated[int, typer.Option(help="Rows of a batch at most.", min=1)] = 50_000,
    seconds: Annotated[float, typer.Option(help="Age at which a smaller batch is written.", min=0)] = 60,
    delta: Annotated[
        bool, typer.Option("--delta", help="Delta Lake tables, in a new folder; one that holds them goes on with them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write transactions and labels to Parquet files by event date, each record once."""
    from trainer.log.ingest import Ingest, counts

    writer, written = Ingest(answering_kafka(), PantherSettings(), folder, rows, seconds, delta), 0
    with contextlib.suppress(KeyboardInterrupt):
        written = asyncio.run(writer.run(once))
    emit({"written": written or writer.written, **counts(folder)}, as_json)
    if not as_json:
        say(escape(f"next: panther refresh --log {folder}"))
