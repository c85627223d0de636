"""`panther shadow`: a version beside the live one, on live traffic, without a say in it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from cli.options import Json, LabelDelayDays, answering_kafka, behind_others, duration_s, moment_ms
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer(no_args_is_help=True, help="A version decides live traffic, beside the live one and without effect.")


_MOMENT = "YYYY-MM-DD or an ISO 8601 time"


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="Folder of the version.", exists=True, file_okay=False)],
    for_: Annotated[
        str | None, typer.Option("--for", help="As 90s, 30m or 2h; 0s: only what is there; else until Ctrl-C.")
    ] = None,
    since: Annotated[str | None, typer.Option(help=f"Payments sent from then on, in place of now: {_MOMENT}.")] = None,
    as_json: Json = False,
) -> None:
    """Decide the payments that come from now on as the stream would with this version, onto fraud.scores.shadow.

    First reads what Kafka keeps of `transactions`, for the states of users. Workers, Triton: not asked. With --since
    what an earlier run of the version has published is not published twice.
    """
    from offline.shadow.follow import Shadow

    seconds = None if for_ is None else duration_s("--for", for_, zero=True)
    since_ms = None if since is None else moment_ms("--since", since)
    behind_others()  # workers and Triton on this machine come first
    shadow = Shadow(answering_kafka(), PantherSettings(), folder, since_ms)
    asyncio.run(_until_stopped(shadow.run(seconds)))
    emit(msgspec.to_builtins(shadow.done), as_json)
    lead_on(f"panther shadow report --version {shadow.done.version}", as_json)


@app.command()
def report(
    version: Annotated[int | None, typer.Option(help="Of the shadow; the one that published last.")] = None,
    since: Annotated[str | None, typer.Option(help=f"What the shadow decided from then on: {_MOMENT}.")] = None,
    label_delay_days: LabelDelayDays = 7,
    show_ids: Annotated[bool, typer.Option("--show-ids", help="Name transactions; else their hashes.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a shadow's decisions with the live ones: agreement, alerts gained and lost, and which were frauds."""
    from trainer.rollout.shadow_report import shadow_report

    since_ms = 0 if since is None else moment_ms("--since", since)
    delay_ms = round(label_delay_days * DAY_MS)
    found = shadow_report(answering_kafka(), PantherSettings(), version, since_ms, delay_ms, show_ids)
    whole = msgspec.to_builtins(found)
    if as_json:
        return emit(whole, True)
    emit({name: value for name, value in whole.items() if name not in ("gained", "lost")}, False)
    for name, part in (("gained", found.gained), ("lost", found.lost)):
        say(
            f"  alerts {name}: {part.alerts:,}, of which {part.fraud:,} fraud, {part.honest:,} honest, "
            f"{part.too_young:,} too young for a label, {part.unlabelled:,} without one"
        )
        say(escape(f"    {' '.join(part.examples)}") if part.examples else "    none")
    if found.shorter_history:
        say(f"  of {found.shorter_history:,} payments the shadow knew a shorter past of the user than the live system")
    return lead_on("panther models promote, or panther refresh, where the gate has the say")


async def _until_stopped(work: Coroutine[Any, Any, object]) -> None:
    """Await `work`, which Ctrl-C or SIGTERM ends early."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
