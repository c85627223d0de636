"""`panther explain`: one user's recent events as the model saw them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import DATA, WORK_ALERTS, Format, Json, answering_kafka, moment_ms
from panther_core.base.console import emit, say
from panther_core.base.settings import PantherSettings

app = typer.Typer()


@app.command(
    rich_help_panel=WORK_ALERTS, short_help="A user's recent events: what was expected, what came, scores, reasons."
)
def explain(
    user: Annotated[str | None, typer.Argument(help="User id; not with --alert.")] = None,
    alert: Annotated[
        str | None, typer.Option(help="Id of an alert or of its payment: that one, out of the running system.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Last moment, ISO 8601 (UTC) or epoch ms; all events if none.")] = None,
    data: Annotated[Path | None, DATA] = None,
    format: Format = None,
    model: Annotated[int, typer.Option(help="Model version, out of PANTHER_MODELS_DIR.")] = 1,
    live: Annotated[bool, typer.Option("--live", help="From the running system's state instead; only reads.")] = False,
    events: Annotated[int, typer.Option(help="Events shown.", min=1)] = 8,
    html: Annotated[Path | None, typer.Option(help="Also draw a page into this file.")] = None,
    as_json: Json = False,
) -> None:
    """A user's recent events: what was expected, what came, scores and reasons; from a replay or the live state."""
    import msgspec

    from offline.explain.show import show

    if (user is None) == (alert is None):
        raise typer.BadParameter("expected either a user or --alert ID, got " + ("both" if user else "neither"))
    upto = None
    if alert is not None:
        from stream.tools.alerts import alert_of, line_of

        if data is not None:
            raise typer.BadParameter("expected no --data with --alert: alerts are looked up in the running system")
        found, live = asyncio.run(alert_of(answering_kafka(), alert)), True
        user, upto = found.user_id, found.history_len
        if not as_json:
            say(escape(line_of(found)))
    assert user is not None
    if live == (data is not None):
        raise typer.BadParameter("expected either --data PATH or --live, got " + ("both" if live else "neither"))
    if data is None:
        from offline.explain.live import view_of_live

        if at is not None:
            raise typer.BadParameter("expected no --at with --live: the state is what is known now")
        view = asyncio.run(view_of_live(answering_kafka(), PantherSettings(), user, events, upto))
    else:
        from offline.explain.replayed import view_of_log
        from offline.replay.request import ReplayRequest, load_replayer
        from panther_core.data.formats import format_of

        at_ms = None if at is None else int(at) if at.isdigit() else moment_ms("--at", at)
        format = format_of(format, data)
        request = ReplayRequest(data, format, (model,), Path(PantherSettings().models_dir))
        view = view_of_log(load_replayer(request, model), data, format, user, at_ms, events)
    if html:
        from offline.explain.user_page import write_page

        write_page(html, view)
    if as_json:
        emit(msgspec.to_builtins(view), True)
    else:
        show(view)
        what = view.events[-1].transaction_id if view.events else "TRANSACTION"
        say(escape(f"next: panther label {what} fraud, or honest"))
