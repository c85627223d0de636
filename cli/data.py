"""Commands about data sets: conversion, and what a tokenizer makes of them. Heavy imports happen inside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from panther_core.base.console import emit, progress_bar, say
from panther_core.data.formats import FORMATS
from panther_core.data.tokenizer import Scale

app = typer.Typer(no_args_is_help=True, help="Data sets: convert them, look at the tokens they make.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


@app.command("convert-fdh")
def convert_fdh(
    folder: Annotated[Path, typer.Argument(help="Folder of the handbook's days, 2018-04-01.pkl and on.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write; call it transactions.parquet.")],
    as_json: Json = False,
) -> None:
    """Turn the Fraud Detection Handbook's daily pickles into one Parquet file, running nothing that they say."""
    from panther_core.data.formats.fdh_convert import convert

    with progress_bar() as bar:
        task = bar.add_task("convert", total=len(list(folder.glob("????-??-??.pkl"))), note="")
        done = convert(folder, out, lambda: bar.advance(task))
    emit({"file": str(out), **asdict(done)}, as_json)


@app.command()
def tokens(
    path: Annotated[Path, typer.Option("--data", help="File or folder of the data set.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    top: Annotated[int, typer.Option(help="At most so many tokens, the most frequent combinations.")] = 60_000,
    coverage: Annotated[float, typer.Option(help="As many tokens as cover this share of the events.")] = 1.0,
    buckets: Annotated[int, typer.Option(help="Buckets of the amount.")] = 20,
    scale: Annotated[str, typer.Option(help="quantile or log buckets of the amount.")] = "quantile",
    fit_share: Annotated[float, typer.Option(help="Share of the transactions to fit on; the rest is `later`.")] = 0.7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tokenizer.json and tokenizer_report.json.", file_okay=False)
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many transactions.")] = None,
    as_json: Json = False,
) -> None:
    """Fit a tokenizer on a data set: how many tokens, what they cover, which values fall out as [UNK]."""
    from rich.markup import escape

    from panther_core.data.formats import read
    from panther_core.data.token_fit import TokenOptions, fit_tokens
    from panther_core.data.token_report import lines, write

    options = TokenOptions(top, coverage, buckets, cast(Scale, scale), fit_share)
    fitted = fit_tokens(lambda: read(format, path, start=start, end=end, limit=limit), options)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(out, fitted.schema, fitted.vocabulary, fitted.report)
    if as_json:
        emit(msgspec.to_builtins(fitted.report), as_json)
    else:
        for line in lines(fitted.report):
            say(escape(line))
