"""`panther bench worker | restore | memory`: the stream side alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.bench_system import Json
from panther_core.base.console import emit

app = typer.Typer()
Folder = Annotated[Path, typer.Option("--dir", help="Run folder; what is in it is removed.")]


@app.command()
def worker(
    folder: Folder = Path("build/bench-worker"),
    transactions: Annotated[int, typer.Option(help="Backlog that every contender works off.")] = 400_000,
    rounds: Annotated[int, typer.Option(help="Turns of all contenders; medians are reported.")] = 1,
    as_json: Json = False,
) -> None:
    """A worker with a scorer that answers at once, beside stock Faust tables, a bare loop and Quix Streams."""
    from bench.worker.contest import Load, run_worker

    emit(run_worker(folder, Load(transactions=transactions, rounds=rounds)), as_json)


@app.command()
def restore(
    folder: Folder = Path("build/bench-restore"),
    users: Annotated[int, typer.Option(help="Users whose states lie on the changelog.")] = 200_000,
    as_json: Json = False,
) -> None:
    """A worker with an empty state folder restores it from the changelog; then a warm start."""
    from bench.worker.restore import Past, run_restore

    emit(run_restore(folder, Past(users)), as_json)


@app.command()
def memory(
    folder: Folder = Path("build/bench-memory"),
    users: Annotated[int, typer.Option(help="Users whose states lie on the changelog.")] = 1_000_000,
    partitions: Annotated[int, typer.Option(help="Partitions, all of them one worker's.")] = 64,
    transactions: Annotated[int, typer.Option(help="Load after the restore.")] = 3_600_000,
    as_json: Json = False,
) -> None:
    """A worker's resident memory with many users, over an hour's worth of load."""
    from bench.worker.restore import Past, run_memory

    emit(run_memory(folder, Past(users, partitions), transactions), as_json)
