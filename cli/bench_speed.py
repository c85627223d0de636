"""`panther bench`, speed of one part alone: the encoder, its pretraining, or a worker without Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from panther_core.base.console import emit

app = typer.Typer()

EmptiedFolder = Annotated[Path, typer.Option("--dir", help="Run folder; what is in it is removed.")]
StoredUsers = Annotated[int, typer.Option(help="Users whose states lie on the changelog.")]


@app.command()
def incremental(as_json: Json = False) -> None:
    """One new event against recomputing the whole window, in process and through Triton; flatness in the past."""
    from bench.speed.incremental import run_apart
    from bench.speed.triton import run_triton

    emit(run_apart() | {"triton": run_triton()}, as_json)


@app.command()
def pretrain(as_json: Json = False) -> None:
    """Events a second of pretraining, beside a plain PyTorch transformer of the same size on the same data."""
    from bench.speed.pretrain import run_pretrain

    emit(run_pretrain(), as_json)


@app.command()
def worker(
    folder: EmptiedFolder = Path("build/bench-worker"),
    transactions: Annotated[int, typer.Option(help="Backlog that every contender works off.")] = 400_000,
    rounds: Annotated[int, typer.Option(help="Turns of all contenders; medians are reported.")] = 1,
    as_json: Json = False,
) -> None:
    """A worker with a scorer that answers at once, beside stock Faust tables, a bare loop and Quix Streams."""
    from bench.worker.contest import ContestSize, run_worker

    emit(run_worker(folder, ContestSize(transactions=transactions, rounds=rounds)), as_json)


@app.command()
def restore(
    folder: EmptiedFolder = Path("build/bench-restore"),
    users: StoredUsers = 200_000,
    as_json: Json = False,
) -> None:
    """A worker with an empty state folder restores it from the changelog; then a warm start."""
    from bench.worker.restore import StoredStates, run_restore

    emit(run_restore(folder, StoredStates(users)), as_json)


@app.command()
def memory(
    folder: EmptiedFolder = Path("build/bench-memory"),
    users: StoredUsers = 1_000_000,
    partitions: Annotated[int, typer.Option(help="Partitions, all of them one worker's.")] = 64,
    merchants: Annotated[int, typer.Option(help="Merchants of whom something is known.", min=0)] = 1_000_000,
    transactions: Annotated[int, typer.Option(help="Load after the restore.")] = 3_600_000,
    as_json: Json = False,
) -> None:
    """A worker's resident memory with many users and merchants, over an hour's worth of load."""
    from bench.worker.restore import StoredStates, run_memory

    emit(run_memory(folder, StoredStates(users, partitions, merchants=merchants), transactions), as_json)
