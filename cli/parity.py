"""`panther parity`: compares the decisions of the stream with those of a replay of the same transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import LOOK_BACK, Json, answering_kafka
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings
from panther_core.data.formats import FORMATS, format_of
from panther_core.data.topics import ALERTS, SCORES, TRANSACTIONS

app = typer.Typer()


@app.command(rich_help_panel=LOOK_BACK, short_help="Compare what the stream decided with a replay, event by event.")
def parity(
    model: Annotated[list[int], typer.Option(help="Every version that has decided, out of PANTHER_MODELS_DIR.")],
    data: Annotated[Path | None, typer.Option(help="File or folder that was streamed; else the topic is read.")] = None,
    format: Annotated[
        str | None, typer.Option(help=f"Of --data and --history: {', '.join(FORMATS)} (your own file).")
    ] = None,
    topic: Annotated[str, typer.Option(help="Topic of the transactions.")] = TRANSACTIONS,
    scores_topic: Annotated[str, typer.Option(help="Topic of the decisions.")] = SCORES,
    alerts_topic: Annotated[str, typer.Option(help="Topic of the alerts.")] = ALERTS,
    history: Annotated[
        str | None,
        typer.Option(help="What users had before: a file, or `topic` for what it holds before the first decision."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many transactions of --data.")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference of two scores that count as equal.")] = 1e-5,
    out: Annotated[Path | None, typer.Option(help="Folder for parity.json and mismatches.jsonl.")] = None,
    as_json: Json = False,
) -> None:
    """Compare what the stream decided with a replay, event by event; exit code 0 only if nothing differs or lacks."""
    from offline.parity.report import ParityRequest, run_parity

    settings, file = PantherSettings(), data or (Path(history) if history not in (None, "topic") else None)
    request = ParityRequest(
        models=tuple(model),
        models_dir=Path(settings.models_dir),
        app_id=settings.app_id,
        data=data,
        format=format_of(format, file) if file else "csv",
        topic=topic,
        scores_topic=scores_topic,
        alerts_topic=alerts_topic,
        past=history,
        limit=limit,
        tolerance=tolerance,
    )
    report = run_parity(answering_kafka(), request, out)
    if not as_json and "first_mismatch" in report:
        say(in_words(report["first_mismatch"]))
    emit(report, as_json)
    same = report["mismatches"] == report["missing"] == 0
    lead_on(
        "nothing: the stream is what the replay says" if same else "docs/parity.md says what each field means", as_json
    )
    raise typer.Exit(0 if same else 1)


def in_words(mismatch: dict[str, Any]) -> str:
    """The first mismatch for a reader: what differs, and the first input that does."""
    cause = mismatch["first_differing_input"]
    partition, offset = mismatch["place"]
    lines = [
        f"[bold red]first mismatch[/] transaction {mismatch['transaction_id']} at {partition}:{offset}",
        f"  {mismatch['field']}: the stream says {mismatch['online']}, the replay {mismatch['replayed']}",
        f"  first input that differs: {cause['step']} {cause['name']}: {cause['online']} against {cause['replayed']}",
    ]
    return "\n".join([*lines, f"  {cause['note']}"] if cause["note"] else lines)
