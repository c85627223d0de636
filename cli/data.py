"""`panther data`: convert a data set, and measure a tokenizer on a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer
from rich.markup import escape

from cli.options import Data, End, Format, Json, LabelDelayDays, Limit, Start
from panther_core.base.console import emit, lead_on, progress_bar, say
from panther_core.base.times import DAY_MS
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
    lead_on(f"panther models train --data {out.parent} --format fdh --out build/models/1", as_json)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The mapping file of your log (or its folder), or a data set's folder.")],
    format: Format = None,
    label_delay_days: LabelDelayDays = 7,
    as_json: Json = False,
) -> None:
    """All that is wrong or odd in a log, with counts and first rows, before anything is trained on it."""
    from panther_core.data.formats import format_of, read_table
    from panther_core.data.formats.check import FileCheck, check_files
    from trainer.fit.log_check import check_log, facts

    format = "csv" if format is None else format_of(format, path)
    own = format == "csv"
    files = check_files(path) if own else FileCheck({}, 0, [])
    problems, held = files.problems, dict[str, str]()
    if not any(problem.fatal for problem in problems):
        table = read_table(format, path)
        files.rows, held = files.rows or len(table), facts(table)
        problems = [*problems, *check_log(table, round(label_delay_days * DAY_MS))]
    ok = not any(problem.fatal for problem in problems)
    if as_json:
        listed = [msgspec.to_builtins(problem) for problem in problems]
        said = {"format": "csv" if own else format, "mapping": files.mapping, "rows": files.rows}
        emit(said | {"problems": listed, "ok": ok}, True)
        raise typer.Exit(0 if ok else 1)
    say(f"{files.rows:,} rows")
    for name, value in held.items():
        say(f"  {name}: {escape(value)}")
    for problem in problems:
        mark = "[bold red]wrong[/]" if problem.fatal else "[yellow]look at[/]"
        first = f" (first: {escape(problem.first)})" if problem.first else ""
        say(f"  {mark} {problem.count:,} {escape(problem.what)}{first}")
    if ok:
        name = "" if own else f" --format {format}"
        say(f"next: panther models train --data {path}{name} --out build/models/1")
    raise typer.Exit(0 if ok else 1)


@app.command()
def tokens(
    data: Data,
    format: Format = None,
    top: Annotated[int, typer.Option(help="At most so many tokens, the most frequent combinations.")] = 60_000,
    coverage: Annotated[float, typer.Option(help="As many tokens as cover this share of the events.")] = 1.0,
    buckets: Annotated[int, typer.Option(help="Buckets of the amount.")] = 20,
    scale: Annotated[
        str, typer.Option("--amount-scale", "--scale", help="quantile or log buckets of the amount.")
    ] = "quantile",
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
    from panther_core.data.formats import format_of, read
    from panther_core.data.token_fit import TokenOptions, fit_tokens
    from panther_core.data.token_report import lines, write

    format = format_of(format, data)
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
        lead_on(f"panther models train --data {data} --format {format} --out build/models/1")
