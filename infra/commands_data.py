"""Commands about data sets: conversion, and what a tokenizer makes of them. Heavy imports happen inside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from panther_core.console import emit, progress_bar

app = typer.Typer(no_args_is_help=True, help="Data sets: convert them, look at the tokens they make.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


@app.command("convert-fdh")
def convert_fdh(
    folder: Annotated[Path, typer.Argument(help="Folder of the handbook's days, 2018-04-01.pkl and on.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write; call it transactions.parquet.")],
    as_json: Json = False,
) -> None:
    """Turn the Fraud Detection Handbook's daily pickles into one Parquet file, running nothing that they say."""
    from panther_core.formats.fdh_convert import convert

    with progress_bar() as bar:
        task = bar.add_task("convert", total=len(list(folder.glob("????-??-??.pkl"))), note="")
        done = convert(folder, out, lambda: bar.advance(task))
    emit({"file": str(out), **asdict(done)}, as_json)
