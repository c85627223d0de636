"""`panther replay`: runs a data set or a topic through the worker's own code, without the stream."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DATA, LOOK_BACK, End, Format, Json, LabelDelayDays, Limit, Since, Start, answering_kafka
from panther_core.base.console import emit, lead_on, progress
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer()


@app.command(rich_help_panel=LOOK_BACK, short_help="Run a data set through the worker's own code, and measure.")
def replay(
    model: Annotated[list[int], typer.Option(help="Model version, out of PANTHER_MODELS_DIR; may be repeated.")],
    data: Annotated[Path | None, DATA] = None,
    topic: Annotated[str | None, typer.Option(help="In its place a topic, up to its end at the start.")] = None,
    format: Format = None,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="Folder for every decision (Parquet); a killed run goes on.")] = None,
    speed: Annotated[str, typer.Option(help="Event time over real time, or max.")] = "max",
    labels: Annotated[Path | None, typer.Option(help="File of transaction_id and label, not the data's own.")] = None,
    label_delay_days: LabelDelayDays = 7,
    threshold: Annotated[float | None, typer.Option(help="Alert from this score on, not from the models' own.")] = None,
    since: Since = None,
    as_decided: Annotated[
        bool, typer.Option(help="With --topic: of merchants what the decisions of PANTHER_APP_ID knew.")
    ] = False,
    via: Annotated[str, typer.Option(help="engine: in process; kafka: a shadow of the real system.")] = "engine",
    as_json: Json = False,
) -> None:
    """Run a data set through the worker's own code in process, and measure what would have been decided."""
    from offline.replay.request import ReplayRequest, run_replay
    from offline.replay.topic import read_log
    from panther_core.data.formats import format_of

    if (data is None) == (topic is None):
        raise typer.BadParameter("expected either --data PATH or --topic NAME, got " + ("both" if data else "neither"))
    if via not in ("engine", "kafka"):
        raise typer.BadParameter(f"expected --via engine or kafka, got {via!r}")
    if topic and (start or end):
        raise typer.BadParameter("expected no --start and --end with --topic: what is left out gives users no past")
    pace = _pace(speed)
    if since is not None:
        from offline.replay.measure import day_ms

        day_ms(since)  # a wrong day is refused now, before the replay
    log = asyncio.run(read_log(answering_kafka(), topic)).merged() if topic else None
    if as_decided:
        if log is None:
            raise typer.BadParameter("expected --topic NAME beside --as-decided: decisions name places of a topic")
        from offline.replay.sellers import sellers_of

        places = list(zip(log.partition.tolist(), log.offset.tolist(), strict=True))
        seller = asyncio.run(sellers_of(answering_kafka(), PantherSettings().app_id, places))
        log = replace(log, table=replace(log.table, seller=seller))
    request = ReplayRequest(
        path=data or Path(str(topic)),
        log=log,
        format=format_of(format, data) if data else "csv",
        models=tuple(model),
        models_dir=Path(PantherSettings().models_dir),
        start=start,
        end=end,
        limit=limit,
        speed=pace,
        labels=labels,
        label_delay_ms=round(label_delay_days * DAY_MS),
        threshold=threshold,
        since=since,
    )
    with progress("replay", limit) as done:
        if via == "kafka":
            from offline.shadow.all_versions import run_shadow

            result = run_shadow(request, out, done)
        else:
            result = run_replay(request, out, done)
    if out and any(model["transactions"] for model in result["models"]):
        from offline.report.build import PAGE, write_report

        write_report([out], out, since)
        result["report"] = str(out / PAGE)
    emit(result, as_json)
    page = result.get("report")
    lead_on(f"open {page}" if page else "the same with --out DIR draws a page, and keeps every decision", as_json)
    if result.get("missing"):
        raise typer.Exit(1)


def _pace(speed: str) -> float:
    """Seconds of event time in a second of real time; 0 for `max`, as fast as possible. Raises typer.BadParameter."""
    if speed == "max":
        return 0
    try:
        pace = float(speed)
    except ValueError:
        raise typer.BadParameter(f"expected max or a number like 3600, got {speed!r}") from None
    if not 0 < pace < float("inf"):
        raise typer.BadParameter(f"expected max or a number above 0, got {speed!r}")
    return pace
