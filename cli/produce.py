"""`panther produce`: sends a data set to the `transactions` topic."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cli.options import RUN_IT, Data, End, Format, Json, Limit, Start, answering_kafka
from panther_core.base.console import emit, progress

app = typer.Typer()


@app.command(rich_help_panel=RUN_IT)
def produce(
    data: Data,
    format: Format,
    rate: Annotated[float, typer.Option(help="Transactions a second; 0 = as fast as the broker takes them.")] = 1000,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Stream a data set's transactions onto the `transactions` topic, in time order."""
    from panther_core.data.formats import read
    from stream.tools import produce as tool

    rows = (row for table in read(format, data, start=start, end=end, limit=limit) for row in table.rows())
    kafka = answering_kafka()
    with progress("produce", limit) as done:
        sent = asyncio.run(tool.produce(kafka, rows, rate, done))
    emit({"produced": sent.count, "seconds": round(sent.seconds, 2), "late_ms": round(sent.late_ms, 1)}, as_json)
