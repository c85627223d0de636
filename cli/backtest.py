"""`panther backtest`: compares a policy of refreshing the model with a model that is never refreshed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import LOOK_BACK, End, Format, Json, LabelDelayDays, Seed, Start
from panther_core.base.console import emit, lead_on

app = typer.Typer()


@app.command(rich_help_panel=LOOK_BACK, short_help="Replay with periodic retraining, beside a model never refreshed.")
def backtest(
    data: Annotated[Path, typer.Option(help="File or folder of the data set, labelled.")],
    train_until: Annotated[str, typer.Option(help="First training, and first day measured, YYYY-MM-DD.")],
    every: Annotated[float, typer.Option(help="Days between trainings.", min=0.01)],
    format: Format = None,
    out: Annotated[Path, typer.Option(help="New folder of models, decisions and report.", file_okay=False)] = Path(
        "build/backtest"
    ),
    label_delay_days: LabelDelayDays = 7,
    start: Start = None,
    end: End = None,
    preset: Annotated[str, typer.Option(help="How version 1 is trained.")] = "demo",
    scratch: Annotated[
        bool, typer.Option("--scratch", help="A refresh is trained like version 1, not gone on from the one before.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Replay with periodic retraining on the labels that had arrived, beside the model that is never refreshed."""
    from bench.system.backtest import BacktestPlan, run_backtest
    from bench.system.backtest_report import figures, show
    from offline.replay.request import ReplayRequest
    from offline.report.build import PAGE, write_report
    from panther_core.base.times import DAY_MS
    from panther_core.data.events import event_time_ms
    from panther_core.data.formats import format_of, read_table
    from trainer.fit.train_config import preset as by_name

    first, format = by_name(preset), format_of(format, data)
    plan = BacktestPlan(
        train_until_ms=event_time_ms(train_until),
        every_ms=round(every * DAY_MS),
        label_delay_ms=round(label_delay_days * DAY_MS),
        first=first,
        refresh=first if scratch else by_name("refresh"),
        scratch=scratch,
        seed=seed,
    )
    request = ReplayRequest(
        path=data,
        format=format,
        models=(1,),
        models_dir=out / "models",
        start=start,
        end=end,
        label_delay_ms=plan.label_delay_ms,
    )
    notes = run_backtest(read_table(format, data, start=start, end=end), request, plan, out)
    report = write_report([out], out, train_until, title=f"{format}, refreshed {plan.refreshing}", notes=notes)
    show(report)
    emit({"report": str(out / PAGE), "notes": notes, "policies": figures(report)}, as_json)
    lead_on(f"open {out / PAGE}", as_json)
