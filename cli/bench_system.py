"""Commands that run a whole system: demo and benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from panther_core.base.console import emit
from panther_core.data.formats import FORMATS

app = typer.Typer()
bench = typer.Typer(no_args_is_help=True, help="Benchmarks; each prints its figures as one JSON object with --json.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/demo"),
    transactions: Annotated[int, typer.Option(help="Transactions to stream.")] = 60_000,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 500,
    as_json: Json = False,
) -> None:
    """Train, stream, alert, refresh in mid-stream, and check that everything held (exit code 0 only then)."""
    from infra.demo import run_demo

    result = run_demo(folder, transactions, rate)
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)


@bench.command()
def e2e(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/bench"),
    users: Annotated[int, typer.Option(help="Users, each with a history.")] = 10_000,
    history: Annotated[int, typer.Option(help="Events a user has before the stream begins, on average.")] = 256,
    backlog: Annotated[int, typer.Option(help="Transactions of the capacity phase.")] = 60_000,
    rate: Annotated[float, typer.Option(min=1, help="Offered in the sustained phase, transactions a second.")] = 2600,
    seconds: Annotated[float, typer.Option(min=10, help="Length of the sustained phase.")] = 300,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of what was sustained, in the latency phase.")] = 0.5,
    latency_seconds: Annotated[float, typer.Option(min=10, help="Length of the latency phase.")] = 60,
    as_json: Json = False,
) -> None:
    """End to end through Kafka, Faust, RocksDB and Triton: capacity, a sustained rate, latency at a share of it."""
    from bench.load import Load
    from bench.system.e2e import run_e2e

    emit(run_e2e(folder, Load(users, history, backlog, rate, seconds, share, latency_seconds)), as_json)


@bench.command()
def stream(
    data: Annotated[Path, typer.Option(help="File or folder of the data set.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    train_until: Annotated[str, typer.Option(help="The model is trained on the days before, YYYY-MM-DD.")],
    folder: Annotated[Path | None, typer.Option("--dir", help="Run folder; build/stream-FORMAT if not given.")] = None,
    transactions: Annotated[int, typer.Option(help="Transactions to stream from that day on.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 1000,
    label_delay_days: Annotated[float, typer.Option(help="How late labels come.", min=0, max=3650)] = 7,
    as_json: Json = False,
) -> None:
    """Public data end to end: train on an earlier window, stream what follows, score it against the labels."""
    from bench.system.public_stream import run_stream

    place = folder or Path(f"build/stream-{format}")
    result = run_stream(place, data, format, train_until, transactions, rate, label_delay_days)
    emit(result, as_json)
    raise typer.Exit(0 if result["missing"] == result["contradicted"] == 0 else 1)


@bench.command()
def incremental(as_json: Json = False) -> None:
    """One new event against recomputing the whole window, in process and through Triton; flatness in the past."""
    from bench.speed.triton import run_triton

    # a process of its own: with the cores to itself it may let waiting threads spin, which this command does not
    environment = os.environ | {"OMP_WAIT_POLICY": "ACTIVE"}
    argv = [sys.executable, "-m", "bench.speed.incremental"]
    inside = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, check=True)
    emit(json.loads(inside.stdout) | {"triton": run_triton()}, as_json)


Users = Annotated[int, typer.Option(help="Users, each with a history of 256 events on average.")]
Rate = Annotated[float, typer.Option(help="Transactions a second, open loop.")]


@bench.command()
def swap(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/bench"),
    users: Users = 2000,
    rate: Rate = 1000,
    as_json: Json = False,
) -> None:
    """A second version takes over under steady load: latency before, during and after, errors, mixed decisions."""
    from bench.load import Load
    from bench.system.swap_and_outage import run_swap

    emit(run_swap(folder, Load(users), rate), as_json)


@bench.command()
def outage(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/bench"),
    users: Users = 2000,
    rate: Rate = 500,
    as_json: Json = False,
) -> None:
    """Triton is killed, hangs and comes back under steady load: how soon noticed, how soon well, what was lost."""
    from bench.load import Load
    from bench.system.swap_and_outage import run_outage

    emit(run_outage(folder, Load(users), rate), as_json)
