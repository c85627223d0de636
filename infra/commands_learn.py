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


@bench.command()
def transfer(
    data: Annotated[str, typer.Option(help="File or folder of transactions, or `generator`.")] = "generator",
    format: Annotated[str, typer.Option(help="Its format; ignored for the generator.")] = "sparkov",
    source: Annotated[str, typer.Option(help="The other log, pretrained on for C.2; `generator`: another one.")] = (
        "generator"
    ),
    source_format: Annotated[str, typer.Option(help="Its format; ignored for the generator.")] = "sparkov",
    seeds: Annotated[str, typer.Option(help="Numbers with commas; each draws other users too.")] = "0,1,2",
    transactions: Annotated[int, typer.Option(help="At most so many of each log, from the beginning.")] = 100_000,
    out: Annotated[Path, typer.Option(help="Folder of finished runs and checkpoints; found there, not run again.")] = (
        Path("build/transfer")
    ),
    as_json: Json = False,
) -> None:
    """Next transaction of users that pretraining never saw, and after pretraining on another log."""
    from trainer.sequences.report import show_rows
    from trainer.transfer import Transfer
    from trainer.transfer_logs import source_log, target_log

    target, table = target_log(data, format, transactions), Transfer(out, numbers(seeds))
    unseen = table.unseen(target)
    show_rows(f"{target.name}: unseen users", unseen)
    elsewhere = table.elsewhere(source_log(source, source_format, transactions), target)
    show_rows(f"{elsewhere['source']}, then a small part of {target.name}: unseen users", elsewhere)
    if as_json:
        emit({"unseen": unseen, "elsewhere": elsewhere}, as_json)
