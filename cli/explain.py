"""`panther explain`: one user's recent events as the model saw them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DATA, WORK_ALERTS, Format, Json, answering_kafka
from panther_core.base.console import emit
from panther_core.base.settings import PantherSettings

app = typer.Typer()


@app.command(
    rich_help_panel=WORK_ALERTS, short_help="A user's recent events: what was expected, what came, scores, reasons."
)
def explain(
    user: Annotated[str, typer.Argument(help="User id.")],
    at: Annotated[str | None, typer.Option(help="Last moment, ISO 8601 (UTC) or epoch ms; all events if none.")] = None,
    data: Annotated[Path | None, DATA] = None,
    format: Format = "fdh",
    model: Annotated[int, typer.Option(help="Model version, out of PANTHER_MODELS_DIR.")] = 1,
    live: Annotated[bool, typer.Option("--live", help="From the running system's state instead; only reads.")] = False,
    events: Annotated[int, typer.Option(help="Events shown.", min=1)] = 8,
    html: Annotated[Path | None, typer.Option(help="Also draw a page into this file.")] = None,
    as_json: Json = False,
) -> None:
    """A user's recent events: what was expected, what came, scores and reasons; from a replay or the live state."""
    import msgspec

    from offline.explain.show import show
    from panther_core.data.events import event_time_ms

    if live == (data is not None):
        raise typer.BadParameter("expected either --data PATH or --live, got " + ("both" if live else "neither"))
    if data is None:
        from offline.explain.live import view_of_live

        if at is not None:
            raise typer.BadParameter("expected no --at with --live: the state is what is known now")
        view = asyncio.run(view_of_live(answering_kafka(), PantherSettings(), user, events))
    else:
        from offline.explain.replayed import view_of_log
        from offline.replay.request import ReplayRequest, load_replayer

        at_ms = None if at is None else event_time_ms(int(at) if at.isdigit() else at)
        request = ReplayRequest(data, format, (model,), Path(PantherSettings().models_dir))
        view = view_of_log(load_replayer(request, model), data, format, user, at_ms, events)
    if html:
        from offline.explain.user_page import write_page

        write_page(html, view)
    if as_json:
        emit(msgspec.to_builtins(view), True)
    else:
        show(view)
