"""`panther dlq`: list, show and send again the dead letters, records that could not be scored."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.options import Json, answering_kafka
from panther_core.base.console import emit, lead_on, say
from panther_core.base.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be scored, and why (docs/dead_letters.md).")

Code = Annotated[str | None, typer.Option(help="Of this reason code only (docs/outcomes.md).")]


@app.command("list")
def list_letters(
    code: Code = None,
    limit: Annotated[int, typer.Option(help="The newest so many; all are counted.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """The newest dead letters, without their bytes, and how many there are of each code."""
    from stream.tools.dlq import newest

    found, count = asyncio.run(newest(answering_kafka(), limit, code))
    if as_json:
        emit({"codes": dict(count), "letters": [letter.summary() for letter in found]}, as_json)
        return
    for letter in found:
        say(escape(f"{letter.place:>10}  {_when(letter.time_ms)}  {letter.code:20} {letter.source}  {letter.reason}"))
    codes = ", ".join(f"{n} {name}" for name, n in count.most_common())
    say(escape(f"{count.total()} dead letters: {codes or 'none'}"))
    if found:
        lead_on(f"panther dlq show {found[-1].place}")


def _when(time_ms: int) -> str:
    """A record's timestamp as people read it; in ms where it is no time, since it may be any number."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `panther dlq list` prints it.")],
    as_json: Json = False,
) -> None:
    """One dead letter whole. Bytes that a terminal would obey are escaped; base64 has them exactly."""
    from stream.tools.dlq import letter_at, parse_place

    whole = asyncio.run(letter_at(answering_kafka(), *parse_place(place))).whole()
    emit(whole if as_json else {name: escape(str(value)) for name, value in whole.items()}, as_json)
    lead_on(f"panther dlq replay --at {place}, after what had stopped it is mended", as_json)


@app.command()
def replay(
    code: Code = None,
    at: Annotated[list[str] | None, typer.Option(help="PARTITION:OFFSET; may be repeated. Instead of --code.")] = None,
    count: Annotated[int | None, typer.Option(help="How many you expect; any other number sends nothing.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send records to `transactions` again, after what had stopped them is mended. Asks for their number first."""
    from stream.tools.dlq import letters_at, letters_of, send_again

    if (code is None) is (not at):
        raise typer.BadParameter("expected either --code or --at: which dead letters are to be sent again?")
    kafka = answering_kafka()
    chosen = asyncio.run(letters_at(kafka, at) if at else letters_of(kafka, code))
    result: dict[str, Any] = {"found": len(chosen), "sent": 0, "codes": dict(Counter(x.code for x in chosen))}
    if chosen and not dry_run:
        if count is None:
            count = typer.prompt(f"{len(chosen)} records; their number again, to send them", type=int, err=True)
        if count != len(chosen):
            raise BadInput(
                f"expected {count} dead letters, found {len(chosen)}: nothing was sent; look with `panther dlq list`"
            )
        result["sent"] = asyncio.run(send_again(kafka, chosen))
    emit(result, as_json)
    lead_on("panther dlq list", as_json)
