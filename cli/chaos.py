"""`panther chaos`: checks the system's guarantees while its parts are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import LOOK_BACK, Json, RunFolder
from panther_core.base.console import emit

app = typer.Typer()


@app.command(rich_help_panel=LOOK_BACK, short_help="Random troubles under steady load, checked against an offline run.")
def chaos(
    folder: RunFolder = Path("build/chaos"),
    kills: Annotated[int, typer.Option(help="Troubles, of all kinds in turn, at random times.", min=0)] = 30,
    seed: Annotated[int, typer.Option(help="Decides times, order and traffic.")] = 0,
    rate: Annotated[float, typer.Option(help="Transactions a second, open loop.", min=1)] = 150,
    seconds: Annotated[float, typer.Option(help="Length of the load.", min=1)] = 300,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    replicas: Annotated[int, typer.Option(help="Triton servers.", min=1)] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Kind of trouble; may be repeated. All if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Random troubles under steady load; exit code 0 only if all that came out equals an offline run."""
    from bench.chaos.experiment import ChaosPlan, run_chaos
    from bench.chaos.troubles import TROUBLES

    kinds = tuple(only or TROUBLES)
    result = run_chaos(folder, ChaosPlan(kills, seed, rate, seconds, workers, replicas, kinds))
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)
