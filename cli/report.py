"""Commands for people who read what was decided: of a replay, and of one user."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from panther_core.base.console import emit
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.formats import FORMATS

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
Since = Annotated[
    str | None, typer.Option(help="First day the report measures, YYYY-MM-DD; earlier events only give users a past.")
]


@app.command()
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
    found = write_report(folders, place, since, threshold or (), title)
    figures = {
        variant.name: {name: figure.value for name, figure in variant.worth.metrics.items()} if variant.worth else {}
        for variant in found.variants
    }
    emit({"report": str(place / PAGE), "transactions": found.transactions, "variants": figures}, as_json)


@app.command()
def explain(
    user: Annotated[str, typer.Argument(help="User id.")],
    at: Annotated[str | None, typer.Option(help="Last moment, ISO 8601 (UTC) or epoch ms; all events if none.")] = None,
    path: Annotated[Path | None, typer.Option("--data", help="File or folder of the data set.")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "fdh",
    model: Annotated[int, typer.Option(help="Model version, out of PANTHER_MODELS_DIR.")] = 1,
    live: Annotated[bool, typer.Option("--live", help="From the running system's state instead; only reads.")] = False,
    events: Annotated[int, typer.Option(help="Events shown; the live state holds 8.", min=1)] = 8,
    html: Annotated[Path | None, typer.Option(help="Also draw a page into this file.")] = None,
    as_json: Json = False,
) -> None:
    """A user's recent events: what was expected, what came, scores and reasons; from a replay or the live state."""
    import msgspec

    from offline.explain.show import show
    from panther_core.data.events import event_time_ms

    if live == (path is not None):
        raise typer.BadParameter("expected either --data PATH or --live, got " + ("both" if live else "neither"))
    if live:
        from offline.explain.live import view_of_live

        if at is not None:
            raise typer.BadParameter("expected no --at with --live: the state is what is known now")
        view = asyncio.run(view_of_live(KafkaSettings(), PantherSettings(), user, events))
    else:
        from offline.explain.replayed import view_of_log
        from offline.replay.run import Request, load_replayer

        assert path is not None
        at_ms = None if at is None else event_time_ms(int(at) if at.isdigit() else at)
        request = Request(path, format, (model,), Path(PantherSettings().models_dir))
        view = view_of_log(load_replayer(request, model), path, format, user, at_ms, events)
    if html:
        from offline.explain.page import write_page

        write_page(html, view)
    if as_json:
        emit(msgspec.to_builtins(view), True)
    else:
        show(view)
