"""`panther drift`: what the live version sees now beside what its training saw, before labels arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from cli.options import DATA, TRAIN_AND_DEPLOY, Format, Json, LabelDelayDays, answering_kafka, duration_s
from panther_core.base.console import console, emit, lead_on, say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

if TYPE_CHECKING:
    from trainer.drift.look import Drift

app = typer.Typer()


@app.command(
    rich_help_panel=TRAIN_AND_DEPLOY, short_help="The newest days beside what the live version's training saw."
)
def drift(
    log: Annotated[
        Path | None, typer.Option(help="Folder that `panther ingest` writes; Kafka's topics, whole, if not given.")
    ] = None,
    days: Annotated[float, typer.Option(help="The newest so many are compared.", min=0.01)] = 7,
    model: Annotated[Path | None, typer.Option(help="Artifact folder; the live version's, if not given.")] = None,
    data: Annotated[Path | None, DATA] = None,
    format: Format = None,
    label_delay_days: LabelDelayDays = 7,
    every: Annotated[str | None, typer.Option(help="Look again and again: 10m, 6h, 1d.")] = None,
    metrics_port: Annotated[int, typer.Option(help="With --every, port of /metrics; 0 = none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
    as_json: Json = False,
) -> None:
    """Compare the newest days with what the live version's training saw, before labels arrive (docs/refresh.md).

    Of a file: --model FOLDER --data FILE --format NAME. Exit code 0 also where there is drift: it is a result.
    """
    if data is not None and (model is None or log is not None or every is not None):
        raise typer.BadParameter("expected --model FOLDER beside --data, and neither --log nor --every")
    if metrics_port and every is None:
        raise typer.BadParameter("expected --every beside --metrics-port: a single look exposes nothing")
    from trainer.drift.reference import NoReference

    look_now = _look(log, days, model, data, format, round(label_delay_days * DAY_MS))
    if every is None:
        try:
            return _show(look_now(), as_json)
        except NoReference as error:
            if as_json:  # whoever asks by a program (refresh --on-drift) is to know what to do
                emit({"drifted": None, "why": [str(error)]}, True)
            raise
    from prometheus_client import start_http_server

    from trainer.drift.gauges import DriftGauges
    from trainer.rollout.live_drift import watch

    gauges, every_s = DriftGauges(), duration_s("--every", every)
    if metrics_port:
        start_http_server(metrics_port, metrics_host, gauges.registry)
    with contextlib.suppress(KeyboardInterrupt):
        watch(look_now, every_s, gauges, partial(_show, as_json=as_json))
    return None


def _look(
    log: Path | None, days: float, model: Path | None, data: Path | None, format: str | None, delay_ms: int
) -> Callable[[], Drift]:
    """What looks once. The live version and the log are read anew each time."""
    if data is not None and model is not None:
        from panther_core.data.formats import format_of, read_table
        from trainer.drift.look import look, newest

        table = read_table(format_of(format, data), data)
        return lambda: look(table, model, *newest(table, days, delay_ms), delay_ms)
    from trainer.rollout.live_drift import live_folder, look_at_log

    settings = PantherSettings()
    if model is not None and log is not None:
        return lambda: look_at_log(model, log, None, settings, days, delay_ms)
    kafka = answering_kafka()
    return lambda: look_at_log(model or live_folder(kafka, settings), log, kafka, settings, days, delay_ms)


def _show(found: Drift, as_json: bool) -> None:
    if as_json:
        result: dict[str, Any] = msgspec.to_builtins(found)
        return emit(result, True)
    table = Table("check", "at training", "now", "verdict", title=f"version {found.version}, {found.rows:,} payments")
    for finding in found.findings:
        before = "" if finding.training is None else f"{finding.training:.4f}"
        verdict = "[bold red]drifted[/]" if finding.drifted else "holds"
        table.add_row(finding.check, before, f"{finding.now:.4f}", verdict)
    console.print(table)
    if (real := found.realised) is not None:
        say(
            f"  {real.rows:,} payments with matured labels: average precision {real.average_precision:.3f}, expected "
            f"{real.expected_average_precision:.3f}"
        )
    for why in found.why:
        say(f"  {escape(why)}")
    lead_on("panther refresh" if found.drifted else "panther drift --every 1h --metrics-port 9102")
    return None
