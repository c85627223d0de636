"""`panther data`: convert a data set, and measure a tokenizer on a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from cli.options import Data, End, Format, Json, Limit, Start
from panther_core.base.console import emit, progress_bar, say
from panther_core.data.schema import Scale

app = typer.Typer(no_args_is_help=True, help="Data sets: convert them, look at the tokens they make.")


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
    data: Data,
    format: Format,
    top: Annotated[int, typer.Option(help="At most so many tokens, the most frequent combinations.")] = 60_000,
    coverage: Annotated[float, typer.Option(help="As many tokens as cover this share of the events.")] = 1.0,
    buckets: Annotated[int, typer.Option(help="Buckets of the amount.")] = 20,
    scale: Annotated[str, typer.Option(help="quantile or log buckets of the amount.")] = "quantile",
    fit_share: Annotated[float, typer.Option(help="Share of the transactions to fit on; the rest is `later`.")] = 0.7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tokenizer.json and tokenizer_report.json.", file_okay=False)
    ] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Fit a tokenizer on a data set: how many tokens, what they cover, which values fall out as [UNK]."""
    from rich.markup import escape

    from panther_core.data.formats import read
    from panther_core.data.token_fit import TokenOptions, fit_tokens
    from panther_core.data.token_report import lines, write

    options = TokenOptions(top, coverage, buckets, cast(Scale, scale), fit_share)
    fitted = fit_tokens(lambda: read(format, data, start=start, end=end, limit=limit), options)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(out, fitted.schema, fitted.vocabulary, fitted.report)
    if as_json:
        emit(msgspec.to_builtins(fitted.report), as_json)
    else:
        for line in lines(fitted.report):
            say(escape(line))
