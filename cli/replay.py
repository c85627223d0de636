"""Commands of the stream side, mounted by `cli`. Heavy imports happen inside, so that `--help` stays quick."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.report import Since
from panther_core.base.console import emit, progress_bar
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.formats import FORMATS

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


@app.command()
def worker(
    data_dir: Annotated[str | None, typer.Option(help="RocksDB folder of this worker (PANTHER_DATA_DIR).")] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz; 0 = none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
) -> None:
    """Run one worker: transactions in, decisions and alerts out. One process a core, each with its own --data-dir."""
    import mode.loop

    mode.loop.use("uvloop")
    from stream.ops.health import Health, make_http_server
    from stream.ops.logs import json_logging
    from stream.scorer.replicas import ReplicaScorer
    from stream.worker.app import make_app

    settings = PantherSettings()
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    health = Health()
    if metrics_port:
        server = make_http_server(health, metrics_host, metrics_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    scorer = ReplicaScorer(settings.triton_url, settings.score_deadline_s, settings.encode_deadline_s)
    faust_app = make_app(KafkaSettings(), settings, scorer, health, scorer.problem)
    log: dict[str, Any] = {"loglevel": "info"}
    if settings.log_format == "json":
        log |= {"logging_config": json_logging("INFO"), "quiet": True}  # quiet: Faust's banner is no log line
    raise SystemExit(faust_app.Worker(**log).execute_from_commandline())


@app.command()
def produce(
    path: Annotated[Path, typer.Option("--data", help="File or folder of the data set.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    rate: Annotated[float, typer.Option(help="Transactions a second; 0 = as fast as the broker takes them.")] = 1000,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many transactions.")] = None,
    as_json: Json = False,
) -> None:
    """Stream a data set's transactions onto the `transactions` topic, in time order."""
    from panther_core.data.formats import read
    from stream.tools.produce import produce as send

    def rows() -> Any:
        for table in read(format, path, start=start, end=end, limit=limit):
            yield from table.rows()

    with progress_bar() as bar:
        task = bar.add_task("produce", total=limit, note="")
        done = asyncio.run(send(KafkaSettings(), rows(), rate, lambda n: bar.update(task, completed=n)))
    emit({"produced": done.count, "seconds": round(done.seconds, 2), "late_ms": round(done.late_ms, 1)}, as_json)


@app.command()
def replay(
    model: Annotated[list[int], typer.Option(help="Model version, out of PANTHER_MODELS_DIR; may be repeated.")],
    path: Annotated[Path | None, typer.Option("--data", help="File or folder of the data set.")] = None,
    topic: Annotated[str | None, typer.Option(help="In its place a topic, up to its end at the start.")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "fdh",
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many transactions.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for every decision (Parquet); a killed run goes on.")] = None,
    speed: Annotated[str, typer.Option(help="Event time over real time, or max.")] = "max",
    labels: Annotated[Path | None, typer.Option(help="File of transaction_id and label, not the data's own.")] = None,
    label_delay: Annotated[float, typer.Option(help="Days until a label arrives.", min=0, max=3650)] = 7,
    threshold: Annotated[float | None, typer.Option(help="Alert from this score on, not from the models' own.")] = None,
    since: Since = None,
    via: Annotated[str, typer.Option(help="engine: in process; kafka: a shadow of the real system.")] = "engine",
    as_json: Json = False,
) -> None:
    """Run a data set through the worker's own code in process, and measure what would have been decided."""
    from offline.replay.run import Request, run
    from offline.replay.topic import read_log

    if (path is None) == (topic is None):
        raise typer.BadParameter("expected either --data PATH or --topic NAME, got " + ("both" if path else "neither"))
    if via not in ("engine", "kafka"):
        raise typer.BadParameter(f"expected --via engine or kafka, got {via!r}")
    if topic and (start or end):
        raise typer.BadParameter("expected no --start and --end with --topic: what is left out gives users no past")
    try:
        pace = 0.0 if speed == "max" else float(speed)
    except ValueError:
        raise typer.BadParameter(f"expected max or a number like 3600, got {speed!r}") from None
    if since is not None:
        from offline.report.build import day_ms

        if not out:
            raise typer.BadParameter("expected --out DIR with --since: it is of the report in that folder")
        day_ms(since)  # now, not after the replay
    if pace < 0 or (speed != "max" and not 0 < pace < float("inf")):
        raise typer.BadParameter(f"expected max or a number above 0, got {speed!r}")
    log = asyncio.run(read_log(KafkaSettings(), topic)).merged() if topic else None
    request = Request(
        path=path or Path(str(topic)),
        log=log,
        format=format,
        models=tuple(model),
        models_dir=Path(PantherSettings().models_dir),
        start=start,
        end=end,
        limit=limit,
        speed=pace,
        labels=labels,
        label_delay_ms=round(label_delay * DAY_MS),
        threshold=threshold,
    )
    with progress_bar() as bar:
        task = bar.add_task("replay", total=limit, note="")
        started = time.perf_counter()

        def progress(rows: int) -> None:
            bar.update(task, completed=rows, note=f"{rows / (time.perf_counter() - started):,.0f}/s")

        if via == "kafka":
            from offline.shadow.shadow import run_shadow

            result = run_shadow(request, out, progress)
        else:
            result = run(request, out, progress)
    if out:
        from offline.report.build import PAGE, write_report

        write_report([out], out, since)
        result["report"] = str(out / PAGE)
    emit(result, as_json)
    if result.get("missing"):
        raise typer.Exit(1)
