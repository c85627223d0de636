"""Commands that run a whole system: demo and benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from panther_core.console import console, emit

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
    users: Annotated[int, typer.Option(help="Users, each with a history.")] = 2000,
    history: Annotated[int, typer.Option(help="Events a user has before the stream begins, on average.")] = 256,
    backlog: Annotated[int, typer.Option(help="Transactions of the capacity phase.")] = 30_000,
    seconds: Annotated[float, typer.Option(help="Length of the latency phase.")] = 60,
    share: Annotated[float, typer.Option(help="Share of the capacity that the latency phase offers.")] = 0.5,
    as_json: Json = False,
) -> None:
    """End to end through Kafka, Faust, RocksDB and Triton: capacity, then open-loop latency."""
    from infra.bench_e2e import Load, run_e2e

    emit(run_e2e(folder, Load(users, history, backlog, seconds, share)), as_json)


@bench.command()
def stream(
    data: Annotated[Path, typer.Option(help="File or folder of the data set.")],
    format: Annotated[str, typer.Option(help="fdh, sparkov, tabformer or generic.")],
    train_until: Annotated[str, typer.Option(help="The model is trained on the days before, YYYY-MM-DD.")],
    folder: Annotated[Path | None, typer.Option("--dir", help="Run folder; build/stream-FORMAT if not given.")] = None,
    transactions: Annotated[int, typer.Option(help="Transactions to stream from that day on.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 1000,
    label_delay_days: Annotated[float, typer.Option(help="How late labels come.", min=0)] = 7,
    as_json: Json = False,
) -> None:
    """Public data end to end: train on an earlier window, stream what follows, score it against the labels."""
    from infra.bench_stream import run_stream

    place = folder or Path(f"build/stream-{format}")
    result = run_stream(place, data, format, train_until, transactions, rate, label_delay_days)
    emit(result, as_json)
    raise typer.Exit(0 if result["missing"] == result["contradicted"] == 0 else 1)


@bench.command()
def incremental(as_json: Json = False) -> None:
    """One new event against recomputing the whole window, in process and through Triton; flatness in the past."""
    from benchmarks.triton import run_triton

    # a process of its own: with the cores to itself it may let waiting threads spin, which this command does not
    environment = os.environ | {"OMP_WAIT_POLICY": "ACTIVE"}
    argv = [sys.executable, "-m", "benchmarks.incremental"]
    inside = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, check=True)
    emit(json.loads(inside.stdout) | {"triton": run_triton()}, as_json)


@bench.command()
def fdh(
    data: Annotated[Path, typer.Option(help="Folder of the Fraud Detection Handbook's transactions.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write: TRANSACTION_ID and score of the test weeks.")],
    folds: Annotated[str | None, typer.Option(help="First training days, YYYY-MM-DD,...; the published ones.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also DeepFM, and LightGBM without groups of features.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fraud Detection Handbook, its prequential protocol: PANTHER's system beside LightGBM, DCN-v2 and DeepFM."""
    from trainer.tabular.fdh import run_fdh
    from trainer.tabular.heads import Settings
    from trainer.tabular.protocol import parse_folds
    from trainer.tabular.report import table_of

    result = run_fdh(data, out, parse_folds(folds), seed, Settings(ablations=ablations))
    if as_json:
        emit(result, True)
    else:
        console.print(table_of(result))
