"""`panther refresh`: trains a running system's model on newer records, and switches to the new version."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import (
    REPOSITORY,
    TRAIN_AND_DEPLOY,
    Json,
    LabelDelayDays,
    Repository,
    Seed,
    answering_kafka,
    behind_others,
    duration_s,
)
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS

app = typer.Typer()


@app.command(rich_help_panel=TRAIN_AND_DEPLOY, short_help="Train on what Kafka holds, judge, switch, watch; --every.")
def refresh(
    once: Annotated[bool, typer.Option("--once", help="One turn, which is what it does unless told.")] = False,
    every: Annotated[str | None, typer.Option(help="Go on: a turn every 6h, 1d, ...")] = None,
    on_drift: Annotated[bool, typer.Option("--on-drift", help="Go on: a turn where the stream has drifted.")] = False,
    look_every: Annotated[str, typer.Option(help="How often --on-drift looks.")] = "1h",
    repository: Repository = REPOSITORY,
    label_delay_days: LabelDelayDays = 7,
    others: Annotated[
        str, typer.Option(help="A payment older than the label delay without a label: unknown or honest.")
    ] = "unknown",
    most_rows: Annotated[
        int, typer.Option(help="Of --log at most so many payments, the newest days: .3 KB of memory each.", min=1)
    ] = 5_000_000,
    anew: Annotated[
        bool, typer.Option("--anew", help="Train from no weights, with a new vocabulary; users' states stay.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Switch even where the gate says no.")] = False,
    shadow: Annotated[
        str | None, typer.Option(help="Before the switch the challenger follows the live stream so long, like 30m.")
    ] = None,
    watch: Annotated[
        str | None, typer.Option(help="Watch the new version so long, and take it back if it fails; 10m with --every.")
    ] = None,
    keep_budget: Annotated[
        bool, typer.Option("--keep-budget", help="Between turns, move the threshold so that the alert budget is kept.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="Folder that `panther ingest` writes; Kafka's topics, whole, if not given.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Of --log the newest so many; all if not given.", min=0)] = None,
    sign_key: Annotated[
        Path | None, typer.Option(help="Private key that signs the new version (docs/registry.md).", dir_okay=False)
    ] = None,
    seed: Seed = 0,
    why: Annotated[str, typer.Option(help="What began it; stands in the report.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Train a challenger on what Kafka holds, judge it beside the live version, switch to it if the gate lets it, and
    watch it.

    Exit code 0 also where the live version stays: a refusal is a result.
    """
    from trainer.rollout.refresh import check_wanted, refresh_once
    from trainer.rollout.turn import Wanted

    if others not in ("unknown", "honest"):
        raise typer.BadParameter(f"expected --others unknown or honest, got {others!r}")
    if once and (every or on_drift):
        raise typer.BadParameter("expected --once, or --every and --on-drift, got both")
    if not (every or on_drift) and keep_budget:
        raise typer.BadParameter(
            "expected --every or --on-drift beside --keep-budget (once: panther models keep-budget)"
        )
    if days is not None and log is None:
        raise typer.BadParameter("expected --log beside --days: of Kafka's topics all is read")
    serves = every is not None or on_drift
    watch_s = duration_s("--watch", watch) if watch is not None else 600.0 if serves else 0.0
    wanted = Wanted(
        round(label_delay_days * DAY_MS),
        seed=seed,
        anyway=anyway,
        anew=anew,
        ingested=log,
        days=days,
        most_rows=most_rows,
        matured_honest=others == "honest",
        shadow_s=0.0 if shadow is None else duration_s("--shadow", shadow),
        watch_s=watch_s,
        sign_key=sign_key,
        why=why,
    )
    settings = PantherSettings()
    behind_others()  # and all that it starts
    if serves:
        check_wanted(settings, wanted)  # or each turn would be refused for it, one after the other
        options = ["--repository", str(repository), "--label-delay-days", str(label_delay_days), "--others", others]
        options += ["--watch", watch or "10m", "--seed", str(seed)] + (["--anyway"] if anyway else [])
        options += ["--anew"] if anew else []
        options += [] if shadow is None else ["--shadow", shadow]
        options += [] if sign_key is None else ["--sign-key", str(sign_key)]
        options += ["--most-rows", str(most_rows)]
        options += [] if days is None else ["--days", str(days)]
        source = [] if log is None else ["--log", str(log)]
        look_s = duration_s("--look-every", look_every) if on_drift else None
        return _serve(settings, [*options, *source], source, every, look_s, label_delay_days, keep_budget)
    done = refresh_once(answering_kafka(), settings, repository, wanted)
    found = done.as_dict()
    if as_json:
        return emit(found, True)
    emit(
        {
            name: found[name]
            for name in ("previous", "version", "promoted", "rolled_back", "transactions", "labelled", "unloaded")
        },
        False,
    )
    for check in [*done.gate, *done.watch]:
        say(escape(f"  {'held' if check.held else 'NOT HELD':8} {check.check}: {check.why}"))
    lead_on("panther models list")
    return None


def _serve(
    settings: PantherSettings,
    options: list[str],
    source: list[str],
    every: str | None,
    look_s: float | None,
    label_delay_days: float,
    keep_budget: bool,
) -> None:
    from trainer.rollout.service import Service

    answering_kafka()
    panther = [sys.executable, "-m", "cli"]
    look = [*panther, "drift", "--json", "--label-delay-days", str(label_delay_days), *source]
    service = Service(
        Path(settings.models_dir),
        [*panther, "refresh", "--once", *options, "--why"],
        None if look_s is None else look,
        None if every is None else duration_s("--every", every),
        look_s or 0.0,
        [*panther, "models", "keep-budget", "--json"] if keep_budget else None,
    )
    say(escape(f"  what it does stands in {settings.models_dir}/refreshes.html; Ctrl-C ends it, and loses nothing"))
    with contextlib.suppress(KeyboardInterrupt):
        service.run()
    lead_on("panther models list")
