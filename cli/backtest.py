"""`panther backtest`: what a refresh policy would have earned against the model that is never refreshed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bench_system import Json
from panther_core.base.console import console, emit
from panther_core.data.formats import FORMATS

if TYPE_CHECKING:
    from offline.report.facts import Report

app = typer.Typer()


@app.command()
def backtest(
    data: Annotated[Path, typer.Option(help="File or folder of the data set, labelled.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    train_until: Annotated[str, typer.Option(help="First training, and first day measured, YYYY-MM-DD.")],
    every: Annotated[float, typer.Option(help="Days between trainings.", min=0.01)],
    out: Annotated[Path, typer.Option(help="New folder of models, decisions and report.", file_okay=False)] = Path(
        "build/backtest"
    ),
    label_delay: Annotated[float, typer.Option(help="Days until a label arrives.", min=0, max=3650)] = 7,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")] = None,
    preset: Annotated[str, typer.Option(help="How version 1 is trained.")] = "demo",
    scratch: Annotated[
        bool, typer.Option("--scratch", help="A refresh is trained like version 1, not gone on from the one before.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    as_json: Json = False,
) -> None:
    """Replay with periodic retraining on the labels that had arrived, beside the model that is never refreshed."""
    from bench.system.backtest import Plan, run_backtest
    from offline.replay.run import Request
    from offline.report.build import PAGE, write_report
    from panther_core.base.times import DAY_MS
    from panther_core.data.events import event_time_ms
    from panther_core.data.formats import read_table
    from trainer.fit.train_config import preset as by_name

    first = by_name(preset)
    plan = Plan(
        train_until_ms=event_time_ms(train_until),
        every_ms=round(every * DAY_MS),
        label_delay_ms=round(label_delay * DAY_MS),
        first=first,
        refresh=first if scratch else by_name("refresh"),
        scratch=scratch,
        seed=seed,
    )
    request = Request(
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
    emit({"report": str(out / PAGE), "notes": notes, "policies": _figures(report)}, as_json)


def show(report: Report) -> None:
    """One table: policies side by side, and what the refresh gained with its interval."""
    from rich.table import Table

    from offline.report.facts import METRICS

    (found,) = report.comparisons
    table = Table("", *(variant.name for variant in report.variants), "difference", "95%")
    for metric in METRICS if found.differences else ():
        gain = found.differences[metric.name]
        values = [f"{v.worth.metrics[metric.name].value:.4f}" for v in report.variants if v.worth]
        table.add_row(metric.title, *values, f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}")
    console.print(table)


def _figures(report: Report) -> dict[str, Any]:
    figures: dict[str, Any] = {
        v.name: {name: f.value for name, f in v.worth.metrics.items()} for v in report.variants if v.worth
    }
    (found,) = report.comparisons
    return figures | {"difference": {name: [f.value, f.low, f.high] for name, f in found.differences.items()}}
