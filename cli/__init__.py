"""The `panther` command. Each noun (models, dlq, ...) has a file; cli.options names the groups that --help shows."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from cli import (
    alerts,
    backtest,
    bench_quality,
    bench_speed,
    bench_system,
    chaos,
    data,
    dlq,
    drift,
    explain,
    ingest,
    init,
    labels,
    models,
    parity,
    produce,
    refresh,
    registry,
    replay,
    report,
    run,
    shadow,
    simulate,
    topics,
    user,
)
from cli.options import LOOK_BACK, RUN_IT, TRAIN_AND_DEPLOY, WORK_ALERTS
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings

bench = typer.Typer(no_args_is_help=True, help="Benchmarks; each prints its figures as one JSON object with --json.")
for part in (bench_system, bench_speed, bench_quality):
    bench.add_typer(part.app)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Real-time fraud detection on streams of payments. From your own file to alerts: docs/quickstart.md.",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"panther {version('panther-stream')}\n")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `panther` itself."""


# the commands of an app added without a name are at the top level, and each command names its panel of --help
app.add_typer(run.app)  # up, down, status, worker, demo
app.add_typer(produce.app)
app.add_typer(topics.app, name="topics", rich_help_panel=RUN_IT)
app.add_typer(user.app, name="user", rich_help_panel=RUN_IT)
app.add_typer(dlq.app, name="dlq", rich_help_panel=RUN_IT)
app.add_typer(alerts.app)
app.add_typer(labels.one)
app.add_typer(labels.app, name="labels", rich_help_panel=WORK_ALERTS)
app.add_typer(explain.app)
models.app.add_typer(registry.app)
app.add_typer(models.app, name="models", rich_help_panel=TRAIN_AND_DEPLOY)
app.add_typer(refresh.app)
app.add_typer(shadow.app, name="shadow", rich_help_panel=TRAIN_AND_DEPLOY)
app.add_typer(drift.app)
app.add_typer(ingest.app)
app.add_typer(init.app)
app.add_typer(data.app, name="data", rich_help_panel=TRAIN_AND_DEPLOY)
app.add_typer(replay.app)
app.add_typer(report.app)
app.add_typer(parity.app)
app.add_typer(backtest.app)
app.add_typer(simulate.app)
app.add_typer(bench, name="bench", rich_help_panel=LOOK_BACK)
app.add_typer(chaos.app)


def main() -> None:
    """Entry point. A PantherError is printed as one readable line, without a traceback, and ends with exit code 1.

    So is an error of a client of Kafka or Triton: a server that goes away in the middle of a command.
    """
    # Waiting OpenMP threads sleep instead of spinning, which beside another busy process costs a factor of ten
    # (docs/log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The error that a command ends with says all; a worker's log has handlers of its own.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").addFilter(lambda record: "Unclosed AIOKafka" not in record.getMessage())
    try:
        app()
    except PantherError as error:
        _end(str(error))
    except Exception as error:
        if (text := outage(error) or full_disk(error)) is None:
            raise
        _end(text)


def outage(error: Exception) -> str | None:
    """What to say of an error that a client of Kafka or Triton raised; None for any other error."""
    library = type(error).__module__.partition(".")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    if library == "aiokafka":
        where = f"Kafka at {KafkaSettings().bootstrap_servers}"
        remedy = "look at the broker, and at the KAFKA_* settings"
    elif library in ("tritonclient", "grpc"):
        where, remedy = f"Triton at {PantherSettings().triton_url}", "look at the server, and at TRITON_URL"
    else:
        return None
    return f"expected {where} to answer, but it did not: {text}: {remedy}"


def full_disk(error: Exception) -> str | None:
    """What to say of an error that a disk without room raised, be it through a library; None for any other error."""
    text = " ".join(str(error).split())
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and "No space left on device" not in text:
        return None
    return f"expected room on the disk, got: {text}: free some and run the command again (`df` shows which one is full)"


def _end(text: str) -> NoReturn:
    say(f"[bold red]error[/] {escape(text)}")
    sys.exit(1)
