"""`panther label` and `panther labels`: what payments turned out to be, sent to `fraud.labels`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.options import WORK_ALERTS, Json, LabelDelayDays, answering_kafka, moment_ms
from panther_core.base.console import emit, say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS, now_ms

one = typer.Typer()
app = typer.Typer(no_args_is_help=True, help="What payments turned out to be.")

Source = Annotated[str, typer.Option(help="Who says so; kept with the label.")]


@one.command("label", rich_help_panel=WORK_ALERTS)
def label(
    transaction: Annotated[str, typer.Argument(help="Id of the payment.")],
    what: Annotated[str, typer.Argument(help="fraud or honest; a later word takes an earlier one back.")],
    user: Annotated[str | None, typer.Option(help="Its user; looked up among the decisions if not given.")] = None,
    at: Annotated[str | None, typer.Option(help="When it became known, ISO 8601; now if not given.")] = None,
    source: Source = "analyst",
    as_json: Json = False,
) -> None:
    """Say that a payment was fraud, or was not."""
    from panther_core.data.events import Label
    from stream.tools.labels import send_labels, user_of

    if what not in ("fraud", "honest"):
        raise typer.BadParameter(f"expected fraud or honest, got {what!r}")
    known_ms = now_ms() if at is None else moment_ms("--at", at)
    kafka = answering_kafka()
    whose = user if user is not None else asyncio.run(user_of(kafka, transaction))
    said = Label(
        transaction_id=transaction, user_id=whose, label=int(what == "fraud"), label_time=known_ms, source=source
    )
    asyncio.run(send_labels(kafka, [said]))
    emit({"transaction": transaction, "user": whose, "label": what, "label_time": known_ms}, as_json)
    if not as_json:
        say("next: `panther refresh` learns of it; the merchant's history has it in some seconds")


@app.command()
def send(
    file: Annotated[
        Path, typer.Argument(help="CSV, Parquet or JSON lines: transaction_id, user_id, label; label_time, source.")
    ],
    source: Source = "file",
    others: Annotated[
        str, typer.Option(help="honest: so are all other payments that are older than --label-delay-days.")
    ] = "unknown",
    label_delay_days: LabelDelayDays = 7,
    as_json: Json = False,
) -> None:
    """Send a file of labels; where it names frauds alone, the others once they are old enough (--others honest)."""
    from stream.tools.labels import labels_of, others_of, send_labels

    if others not in ("unknown", "honest"):
        raise typer.BadParameter(f"expected --others unknown or honest, got {others!r}")
    labels = labels_of(file, source, now_ms())
    kafka = answering_kafka()
    asyncio.run(send_labels(kafka, labels))
    frauds = sum(one.label for one in labels)
    matured = []
    if others == "honest":
        matured = asyncio.run(others_of(kafka, PantherSettings(), round(label_delay_days * DAY_MS), now_ms()))
        asyncio.run(send_labels(kafka, matured))
    told = {"sent": len(labels), "frauds": frauds, "honest": len(labels) - frauds}
    emit(told | ({"others_honest": len(matured)} if others == "honest" else {}), as_json)
    if not as_json:
        say(
            "next: panther_labels_total of the workers says which found their payment; `panther refresh` learns of them"
        )
