"""`panther simulate`: what refreshing the model earns over never refreshing it, without Kafka and Triton."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.options import LOOK_BACK, End, Format, Json, LabelDelayDays, Seed, Start
from panther_core.base.console import emit, lead_on, say

app = typer.Typer()


class Gates(StrEnum):
    """Which policies run."""

    on, off, both = "on", "off", "both"


@app.command(rich_help_panel=LOOK_BACK, short_help="The loop of refreshes on a log, beside never: recall, promotions.")
def simulate(
    data: Annotated[str, typer.Option(help="File or folder of a labelled log, or `generator`.")] = "generator",
    format: Format = None,
    days: Annotated[int, typer.Option(help="Days the generator makes after the first; a drift halfway.", min=2)] = 60,
    users: Annotated[int, typer.Option(help="Users the generator makes.", min=2)] = 3000,
    sample_users: Annotated[
        int | None, typer.Option(help="Of --data so many users, always the same; all if not given.", min=1)
    ] = None,
    first_days: Annotated[int, typer.Option(help="Days that version 1 is trained on.", min=1)] = 45,
    every: Annotated[float, typer.Option(help="Days between turns.", min=0.01)] = 7,
    label_delay_days: LabelDelayDays = 7,
    gate: Annotated[Gates, typer.Option(help="Whether the gate decides; off: every challenger goes live.")] = Gates.on,
    preset: Annotated[str, typer.Option(help="How version 1 is trained.")] = "demo",
    out: Annotated[
        Path, typer.Option(help="Folder of turns, versions and scores; a run in it goes on.", file_okay=False)
    ] = Path("build/simulate"),
    start: Start = None,
    end: End = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run the loop of refreshes over a log with the log's own time, and compare it with a model never refreshed.

    Version 1 learns from the first days. Each turn sees the payments and the labels that had come by then, trains,
    judges and promotes or refuses as `panther refresh` does; a promoted version that turns out worse is rolled back.
    """
    from bench.loop.plan import Gate, Plan, generated, some_users
    from bench.loop.simulate import simulate as run
    from panther_core.base.times import DAY_MS
    from panther_core.data.formats import format_of
    from trainer.options import GENERATOR, LogPart, log_for

    made = data == GENERATOR
    facts = generated(users, first_days, days, seed)
    table, profile = log_for(data, None if made else format_of(format, data), LogPart(start, end), facts)
    if sample_users is not None:
        table = some_users(table, sample_users)
    day_0 = int(table.time_ms[0]) // DAY_MS * DAY_MS
    plan = Plan(
        start_ms=day_0 + first_days * DAY_MS,
        end_ms=day_0 + (first_days + days) * DAY_MS if made else int(table.time_ms[-1]) + 1,
        every_ms=round(every * DAY_MS),
        label_delay_ms=round(label_delay_days * DAY_MS),
        drift_ms=day_0 + facts["drift_day"] * DAY_MS if made else None,
        first=preset,
        seed=seed,
    )
    gates: dict[Gates, tuple[Gate, ...]] = {Gates.on: ("on",), Gates.off: ("off",), Gates.both: ("on", "off")}
    found = run(table, plan, gates[gate], out, profile)
    if as_json:
        return emit(found, True)
    _show(found)
    lead_on(f"{out / 'runs.jsonl'} has every turn; panther refresh does one on a running system")
    return None


def _show(found: dict[str, Any]) -> None:
    for week in found["weeks"]:
        recalls = ", ".join(f"{name} {value:.3f}" for name, value in week["recall"].items())
        say(escape(f"  week from day {week['day']:>4}: {week['frauds']:>5} frauds; recall {recalls}"))
    for part in ("before", "after"):
        for name, of in (found[part].get("policies", {}) | found[part].get("differences", {})).items():
            told = ", ".join(f"{key} {value:.4f} [{low:.4f}, {high:.4f}]" for key, (value, low, high) in of.items())
            say(escape(f"  {part}, {name}: {told}"))
    names = ("recall_before", "recall_after_without", "recall_after_with", "days_to_recovery", "promotions")
    emit({name: found[name] for name in names} | {"refusals": len(found["refusals"])}, False)
    emit({"rollbacks": found["rollbacks"]}, False)
