"""`panther init`: a mapping for an own file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from cli.options import TRAIN_AND_DEPLOY, Json
from panther_core.base.console import emit, say
from panther_core.base.errors import BadInput

app = typer.Typer()


@app.command(rich_help_panel=TRAIN_AND_DEPLOY)
def init(
    path: Annotated[Path, typer.Argument(help="Your file (CSV, Parquet, JSON lines), a folder or a pattern of parts.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Mapping file to write; mapping.toml beside the data if not given.", dir_okay=False),
    ] = None,
    answers: Annotated[
        list[str] | None, typer.Option("--set", help="An answer, as zone=Europe/Berlin; several times.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at your own file, say what each column seems to be, and write a mapping for it."""
    from panther_core.data.formats.guess import UNKNOWN, guess
    from panther_core.data.formats.mapping import to_toml

    found = guess(path)
    known = found.known
    if known is not None and known.format is not None:
        say(f"this is {known.name}, which has a reader of its own: give --format {known.format} with --data {path}")
        return emit({"format": known.format, "mapping": None, "open": {}}, True) if as_json else None
    if known is not None and not known.mapping:
        what = "; for choices of users there is `panther bench seqrec`" if known.sequences else ""
        raise BadInput(f"{path} is {known.name}, which lacks {'; '.join(known.lacks)}: it is no log of payments{what}")
    for line in found.reasons:
        say(f"  {escape(line)}")
    for lack in known.lacks if known is not None else ():
        say(f"  [bold]it lacks[/] {escape(lack)}")
    given = dict(_answer(text) for text in answers or [])
    asks = sys.stdin.isatty() and not as_json
    for key, (question, words) in {**found.open}.items():
        answer = given.pop(key, None)
        if answer is None and asks:
            answer = typer.prompt(f"{question} [{', '.join(words)}]", default="", show_default=False) or None
        if answer is not None:
            found.say(key, answer if key != "fraud" else [answer], "as you say")
            if key == "fraud":
                rest = [word for word in words if word in UNKNOWN]
                found.say("honest", [word for word in words if word not in (answer, *rest)], "the others")
                if rest:
                    found.say("unknown", rest, "words for nothing")
            del found.open[key]
    for key, value in given.items():
        found.say(key, value, "as you say")
        found.open.pop(key, None)
    mapping = out or (path if path.is_dir() else path.parent) / "mapping.toml"
    if mapping.exists():
        raise BadInput(f"expected no file at {mapping}, found one: give another --out, or remove it")
    data = str(path.resolve() if out is not None and out.parent.resolve() != path.parent.resolve() else path.name)
    if path.is_dir() and out is None:
        data = "."
    if not found.missing:
        mapping.parent.mkdir(parents=True, exist_ok=True)
        mapping.write_text(_with_questions(to_toml(found.keys, data), found.open), encoding="utf-8")
    if as_json:
        emit({"format": "csv", "mapping": None if found.missing else str(mapping), "open": found.open}, True)
        raise typer.Exit(1 if found.missing else 0)
    if found.missing:
        columns = ", ".join(found.open[f"columns.{found.missing[0]}"][1])
        raise BadInput(
            f"expected columns for {', '.join(found.missing)} in {path}, found none that seems to be: say which, as "
            f"--set columns.{found.missing[0]}=NAME (columns: {columns[:300]})"
        )
    for key, (question, words) in found.open.items():
        text = f"{question} Set {key} in {mapping} ({', '.join(words)})."
        say(f"  [bold]to be said[/]: {escape(text)}")
    say(f"wrote {mapping}; next: panther data check {mapping}")


def _answer(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"expected KEY=VALUE, as zone=Europe/Berlin, got {text!r}")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value


def _with_questions(text: str, questions: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    """The mapping with a comment for each thing that only its owner knows."""
    notes = [f"# {question} ({key}: {', '.join(words)})" for key, (question, words) in questions.items()]
    return "\n".join([*notes, text]) if notes else text
