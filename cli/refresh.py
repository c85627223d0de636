"""`panther refresh`: trains a running system's model on newer records, and switches to the new version."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import REPOSITORY, TRAIN_AND_DEPLOY, Json, Repository, Seed, answering_kafka
from panther_core.base.console import emit
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer()


@app.command(rich_help_panel=TRAIN_AND_DEPLOY, short_help="Continue training on what Kafka holds, and switch to it.")
def refresh(
    # the flag has no effect: every refresh is one turn
    once: Annotated[bool, typer.Option("--once", help="One turn; the service that repeats it comes later.")] = False,
    repository: Repository = REPOSITORY,
    label_delay_days: Annotated[float, typer.Option(help="How late labels come, in event time.", min=0, max=3650)] = 7,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Continue training on what Kafka holds, load the next version into the running Triton, and switch to it."""
    from trainer.rollout.refresh import refresh_once

    done = refresh_once(answering_kafka(), PantherSettings(), repository, round(label_delay_days * DAY_MS), seed)
    emit(done.as_dict(), as_json)
