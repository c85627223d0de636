"""`panther bench` commands about what the learnt embeddings are good for elsewhere: recommending, unseen users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands_run import Json, names, numbers
from panther_core.console import emit

bench = typer.Typer()


@bench.command()
def rerank(
    data: Annotated[Path, typer.Option(help="Folder of sequence files: NAME.txt, NAME.dat, or either with .gz.")],
    sets: Annotated[str, typer.Option(help="Names with commas; all in the folder if not given.")] = "",
    seeds: Annotated[str, typer.Option(help="Numbers with commas.")] = "0,1,2",
    out: Annotated[Path, typer.Option(help="Folder of finished runs and encoders; found there, not run again.")] = (
        Path("build/rerank")
    ),
    as_json: Json = False,
) -> None:
    """Next item, full ranking: PANTHER alone, and with a DCN that orders its first 100 candidates anew."""
    from trainer.sequences.report import show_rows
    from trainer.sequences.rerank_bench import run_rerank

    result = run_rerank(data, names(sets), numbers(seeds), out)
    for name, facts in result["sets"].items():
        show_rows(f"{name}: {facts['evaluated']:,} users; on validation best: {facts['chosen_on_validation']}", facts)
    if as_json:
        emit(result, as_json)
