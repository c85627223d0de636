"""Commands that keep a running system's model fresh, mounted by `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panther_core.base.console import emit
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer()


@app.command()
def refresh(
    once: Annotated[bool, typer.Option("--once", help="One turn; the service that repeats it comes later.")] = False,
    repository: Annotated[Path, typer.Option(help="Triton's model repository.")] = Path("build/stack/models"),
    label_delay_days: Annotated[float, typer.Option(help="How late labels come, in event time.", min=0, max=3650)] = 7,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")] = False,
) -> None:
    """Continue training on what Kafka holds, load the next version into the running Triton, and switch to it."""
    if not once:
        raise typer.BadParameter("expected --once: the repeating service is not built yet")
    from trainer.rollout.refresh import refresh_once

    done = refresh_once(KafkaSettings(), PantherSettings(), repository, round(label_delay_days * DAY_MS), seed)
    emit(done.as_dict(), as_json)
