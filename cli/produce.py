"""`panther produce`: sends a data set to the `transactions` topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import RUN_IT, Data, End, Format, Json, LabelDelayDays, Limit, Start, answering_kafka
from panther_core.base.console import emit, lead_on, progress, say
from panther_core.base.times import DAY_MS

if TYPE_CHECKING:
    from stream.tools.produce import Produced

app = typer.Typer()


@app.command(rich_help_panel=RUN_IT)
def produce(
    data: Data,
    format: Format = None,
    rate: Annotated[float, typer.Option(help="Transactions a second; 0 = as fast as the broker takes them.")] = 1000,
    labels: Annotated[
        bool, typer.Option("--labels", help="Send labels too, each when payments of its arrival's time are sent.")
    ] = False,
    label_delay_days: LabelDelayDays = 7,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Stream a data set's transactions onto the `transactions` topic, in time order."""
    from panther_core.data.formats import format_of, read, read_table
    from stream.tools import produce as tool

    format = format_of(format, data)
    if labels:
        table = read_table(format, data, start=start, end=end, limit=limit)
        kafka = answering_kafka()
        with progress("produce", len(table)) as done:
            sent, told = asyncio.run(
                tool.produce_with_labels(kafka, table, rate, round(label_delay_days * DAY_MS), done)
            )
        known = int((table.label >= 0).sum())
        if known > told:
            say(f"  {known - told:,} labels are due after the last payment, and were not sent: docs/labels.md")
        emit(_facts(sent) | {"labels": told, "labels_due_later": known - told}, as_json)
        return lead_on("panther alerts", as_json)
    rows = (row for table in read(format, data, start=start, end=end, limit=limit) for row in table.rows())
    kafka = answering_kafka()
    with progress("produce", limit) as done:
        sent = asyncio.run(tool.produce(kafka, rows, rate, done))
    emit(_facts(sent), as_json)
    return lead_on("panther alerts", as_json)


def _facts(sent: Produced) -> dict[str, Any]:
    return {"produced": sent.count, "seconds": round(sent.seconds, 2), "late_ms": round(sent.late_ms, 1)}
