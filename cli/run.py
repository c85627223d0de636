"""Commands that run the system: the local servers (up, down, status), a worker, and the demo of everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import RUN_IT, Json, RunFolder, answering_kafka
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings

if TYPE_CHECKING:
    from infra.local.stack import LocalStack, PartStatus

app = typer.Typer(help="A real Kafka and a real Triton on this machine, without Docker.")

StackFolder = Annotated[Path, typer.Option("--dir", help="Run folder: state, logs, Kafka's data, models.")]
_STACK = Path("build/stack")


@app.command(rich_help_panel=RUN_IT)
def up(
    kafka_port: Annotated[int, typer.Option(help="The controller takes the next one.")] = 19092,
    triton_http_port: int = 18000,
    triton_grpc_port: int = 18001,
    triton_metrics_port: int = 18002,
    folder: StackFolder = _STACK,
    model_repository: Annotated[Path | None, typer.Option(help="Default: models/ in --dir.")] = None,
    as_json: Json = False,
) -> None:
    """Start Kafka and Triton, wait until both are healthy, and leave them running.

    KAFKA_BOOTSTRAP_SERVERS or TRITON_URL (gRPC host:port) set: that part is only checked.
    """
    from infra.local.stack import LocalStack
    from infra.local.triton import TritonPorts

    with _stack_errors(as_json):
        ports = TritonPorts(triton_http_port, triton_grpc_port, triton_metrics_port)
        stack = LocalStack(folder, kafka_port, ports, model_repository)
        _show(stack, stack.up(), as_json)
        lead_on("panther topics create", as_json)


@app.command(rich_help_panel=RUN_IT)
def down(folder: StackFolder = _STACK, as_json: Json = False) -> None:
    """Stop what `up` started in this folder. The data stays."""
    from infra.local.stack import LocalStack

    with _stack_errors(as_json):
        stack = LocalStack(folder)
        stopped = stack.down()
    if as_json:
        emit({"ok": True, "folder": str(stack.folder), "stopped": stopped}, True)
    else:
        emit({"stopped": ", ".join(stopped) or "nothing, it was not running"}, False)
        lead_on("panther up goes on with the same data")


@app.command(rich_help_panel=RUN_IT)
def status(folder: StackFolder = _STACK, as_json: Json = False) -> None:
    """Ask every part now; exit code 0 only if all are healthy."""
    from infra.local.stack import LocalStack

    with _stack_errors(as_json):
        stack = LocalStack(folder)
        _show(stack, stack.status(), as_json)
        lead_on("panther models list", as_json)


@contextmanager
def _stack_errors(as_json: bool) -> Iterator[None]:
    """With --json, print a StackError as JSON on stdout, and end with exit code 1."""
    from infra.local.errors import StackError

    try:
        yield
    except StackError as error:
        if not as_json:
            raise
        emit({"ok": False, "error": {"type": type(error).__name__, "message": str(error)}}, True)
        raise typer.Exit(1) from None


def _show(stack: LocalStack, parts: list[PartStatus], as_json: bool) -> None:
    """Print the state of each part; exit code 1 unless all parts are healthy."""
    healthy = all(part.problem is None for part in parts)
    if as_json:
        said = {"ok": healthy, "folder": str(stack.folder), "parts": [part._asdict() for part in parts]}
        emit(said | {"triton_key_file": str(stack.key_file)}, True)
    else:
        emit({f"{part.name:7}": escape(_in_words(part)) for part in parts}, False)
        if stack.key and stack.key_file != Path(PantherSettings().triton_key_file).resolve():
            say(f"Other commands need PANTHER_TRITON_KEY_FILE={stack.key_file} to load and unload models.")
    if not healthy:
        raise typer.Exit(1)


def _in_words(part: PartStatus) -> str:
    how = "external" if part.external else "started" if part.started else "already running"
    return f"{part.address:22} " + (f"{part.state} {part.problem}" if part.problem else f"healthy ({how})")


@app.command(
    rich_help_panel=RUN_IT, short_help="Run one worker: transactions in, decisions and alerts out. One process a core."
)
def worker(
    data_dir: Annotated[str | None, typer.Option(help="RocksDB folder of this worker (PANTHER_DATA_DIR).")] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz; 0 = none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
) -> None:
    """Run one worker: transactions in, decisions and alerts out. One process a core, each with its own --data-dir."""
    from stream.worker.process import run_worker

    settings = PantherSettings()
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    run_worker(answering_kafka(), settings, metrics_host, metrics_port)


@app.command(rich_help_panel=RUN_IT, short_help="Keep merchants' histories, beside the workers.")
def merchants(
    data_dir: Annotated[str | None, typer.Option(help="RocksDB folder of this process (PANTHER_DATA_DIR).")] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz; 0 = none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
) -> None:
    """Keep merchants' histories: what workers write to merchant.events becomes the records of merchant.risk.

    Several processes share the merchants, each with its own --data-dir.
    """
    from stream.merchants.app import run_merchants

    settings = PantherSettings()
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    run_merchants(answering_kafka(), settings, metrics_host, metrics_port)


@app.command(rich_help_panel=RUN_IT, short_help="Train, stream, alert, refresh in mid-stream, and check everything.")
def demo(
    folder: RunFolder = Path("build/demo"),
    transactions: Annotated[int, typer.Option(help="Transactions to stream.")] = 60_000,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 500,
    as_json: Json = False,
) -> None:
    """Train, stream, alert, refresh in mid-stream, and check that everything held (exit code 0 only then)."""
    from infra.demo import run_demo

    result = run_demo(folder, transactions, rate)
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)
