"""`up`, `down` and `status` of the local stack. Exit code 0 only if what was asked holds, else 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="A real Kafka and a real Triton on this machine, without Docker.")

Folder = Annotated[Path, typer.Option("--dir", help="Run folder: state, logs, Kafka's data, models.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
_DEFAULT = Path("build/stack")


@app.command()
def up(
    kafka_port: Annotated[int, typer.Option(help="The controller takes the next one.")] = 19092,
    triton_http_port: int = 18000,
    triton_grpc_port: int = 18001,
    triton_metrics_port: int = 18002,
    folder: Folder = _DEFAULT,
    model_repository: Annotated[Path | None, typer.Option(help="Default: models/ in --dir.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start Kafka and Triton, wait until both are healthy, and leave them running.

    KAFKA_BOOTSTRAP_SERVERS or TRITON_URL (gRPC host:port) set: that part is only checked.
    """

    def work() -> dict[str, Any]:
        from infra.local.stack import LocalStack
        from infra.local.triton import TritonPorts

        ports = TritonPorts(triton_http_port, triton_grpc_port, triton_metrics_port)
        stack = LocalStack(folder, kafka_port, ports, model_repository)
        parts = [part._asdict() for part in stack.up()]
        return {"ok": True, "folder": str(stack.folder), "parts": parts}

    _finish(work, as_json)


@app.command()
def down(folder: Folder = _DEFAULT, as_json: AsJson = False) -> None:
    """Stop what `up` started in this folder. The data stays."""

    def work() -> dict[str, Any]:
        from infra.local.stack import LocalStack

        stack = LocalStack(folder)
        return {"ok": True, "folder": str(stack.folder), "stopped": stack.down()}

    _finish(work, as_json)


@app.command()
def status(folder: Folder = _DEFAULT, as_json: AsJson = False) -> None:
    """Ask every part now; exit code 0 only if all are healthy."""

    def work() -> dict[str, Any]:
        from infra.local.stack import LocalStack

        stack = LocalStack(folder)
        parts = stack.status()
        healthy = all(part.problem is None for part in parts)
        return {"ok": healthy, "folder": str(stack.folder), "parts": [part._asdict() for part in parts]}

    _finish(work, as_json)


def _finish(work: Callable[[], dict[str, Any]], as_json: bool) -> None:
    """Run a command's work, print its answer or its error, and set the exit code."""
    from infra.local.errors import StackError

    try:
        answer = work()
    except StackError as error:
        answer = {"ok": False, "error": {"type": type(error).__name__, "message": str(error)}}
    if as_json:
        typer.echo(json.dumps(answer))
    elif "error" in answer:
        typer.echo(answer["error"]["message"], err=True)
    else:
        typer.echo(_as_text(answer))
    if not answer["ok"]:
        raise typer.Exit(1)


def _as_text(answer: dict[str, Any]) -> str:
    if "stopped" in answer:
        return f"stopped: {', '.join(answer['stopped']) or 'nothing, it was not running'}"
    lines = []
    for part in answer["parts"]:
        how = "external" if part["external"] else "started" if part["started"] else "already running"
        text = part["problem"] or f"healthy ({how})"
        lines.append(f"{part['name']:7} {part['address']:22} {part['state'] if part['problem'] else ''} {text}")
    return "\n".join(lines)
