"""`panther report`: makes one page of the decisions of finished replays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import LOOK_BACK, Json, Since
from panther_core.base.console import emit, lead_on

app = typer.Typer()


@app.command(rich_help_panel=LOOK_BACK, short_help="Report of replays: versions and thresholds side by side.")
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished replays (panther replay --out).")],
    out: Annotated[Path | None, typer.Option(help="Folder of report.json and report.html; the first if none.")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Compare with alerts from this score on; may be repeated.")
    ] = None,
    since: Since = None,
    title: Annotated[str, typer.Option(help="Headline; the folder's name if not given.")] = "",
    as_json: Json = False,
) -> None:
    """Report of replays: figures with intervals, versions and thresholds side by side, what changes for whom."""
    from offline.report.build import PAGE, write_report

    place = out or folders[0]
    found = write_report(folders, place, since, threshold, title)
    figures = {
        variant.name: {name: figure.value for name, figure in variant.worth.metrics.items()} if variant.worth else {}
        for variant in found.variants
    }
    emit({"report": str(place / PAGE), "transactions": found.transactions, "variants": figures}, as_json)
    lead_on(f"open {place / PAGE}", as_json)
