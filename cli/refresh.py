"""`panther refresh`: trains a running system's model on newer records, and switches to the new version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import REPOSITORY, TRAIN_AND_DEPLOY, Json, LabelDelayDays, Repository, Seed, answering_kafka
from panther_core.base.console import emit, say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer()


@app.command(rich_help_panel=TRAIN_AND_DEPLOY, short_help="Continue training on what Kafka holds, and switch to it.")
def refresh(
    # the flag has no effect: every refresh is one turn
    once: Annotated[bool, typer.Option("--once", help="One turn; the service that repeats it comes later.")] = False,
    repository: Repository = REPOSITORY,
    label_delay_days: LabelDelayDays = 7,
    anyway: Annotated[bool, typer.Option("--anyway", help="Switch even where the gate says no.")] = False,
    log: Annotated[
        Path | None, typer.Option(help="Folder that `panther ingest` writes; Kafka's topics, whole, if not given.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Of --log the newest so many; all if not given.", min=0)] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a challenger on what Kafka holds, judge it beside the live version, and switch to it if the gate lets it.

    Exit code 0 also where the live version stays: a refusal is a result.
    """
    from trainer.rollout.refresh import refresh_once

    delay_ms = round(label_delay_days * DAY_MS)
    done = refresh_once(answering_kafka(), PantherSettings(), repository, delay_ms, seed, anyway, log, days)
    found = done.as_dict()
    if as_json:
        return emit(found, True)
    emit(
        {name: found[name] for name in ("previous", "version", "promoted", "transactions", "labelled", "unloaded")},
        False,
    )
    for check in done.gate:
        say(escape(f"  {'held' if check.held else 'NOT HELD':8} {check.check}: {check.why}"))
    say("next: panther models list")
    return None
