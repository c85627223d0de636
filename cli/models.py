"""`panther models`: train, deploy and retire model versions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import (
    REPOSITORY,
    End,
    Format,
    Json,
    LabelDelayDays,
    Limit,
    Repository,
    Start,
    answering_kafka,
    behind_others,
    duration_s,
)
from panther_core.base.console import emit, lead_on, say
from panther_core.base.settings import PantherSettings

app = typer.Typer(no_args_is_help=True, help="Train, deploy and retire model versions.")
Artifact = Annotated[Path, typer.Argument(help="Artifact folder.")]
Seen = Annotated[
    int | None,
    typer.Option("--instead-of", min=1, help="Version that you saw live: nothing changes where another one is."),
]
Patience = Annotated[float, typer.Option(help="How long to wait for the running workers' word, s.", min=0)]


@app.command()
def train(
    data: Annotated[str, typer.Option(help="File or folder of transactions, or `generator`.")],
    format: Format = None,
    out: Annotated[Path, typer.Option(help="Folder of the new artifact.", file_okay=False)] = Path("build/models/1"),
    version: Annotated[
        int | None, typer.Option(help="Version number; the name of --out, or 1, if not given.", min=1)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the version in --out.")] = False,
    preset: Annotated[
        str, typer.Option(help="default (fits itself to the log), paper, demo, refresh, tiny.")
    ] = "default",
    config_file: Annotated[
        Path | None, typer.Option("--config", help="TOML file that changes the preset; docs/training.md.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes of pretraining.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time limit of pretraining.")] = None,
    top: Annotated[int | None, typer.Option(help="At most so many tokens, the most frequent combinations.")] = None,
    coverage: Annotated[float | None, typer.Option(help="As many tokens as cover this share of the events.")] = None,
    amount_scale: Annotated[str | None, typer.Option(help="quantile or log buckets of the amount.")] = None,
    label_delay_days: LabelDelayDays = 7,
    seed: Annotated[int, typer.Option(help="Seed of every random number.", min=0)] = 0,
    continue_from: Annotated[Path | None, typer.Option(help="Artifact to go on from.")] = None,
    users: Annotated[int, typer.Option(help="Users the generator makes.")] = 5000,
    days: Annotated[int, typer.Option(help="Days the generator makes.")] = 60,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Train a model version: pretrain, fine-tune, calibrate, evaluate, write the artifact."""
    from panther_core.base.times import DAY_MS
    from panther_core.data.formats import format_of
    from trainer.options import GENERATOR, LogPart, config_for, log_for, version_for
    from trainer.training import PretrainedElsewhere
    from trainer.training import train as train_version

    number = version_for(out, version, overwrite)
    tokens = {"vocabulary": top, "coverage": coverage, "amount_scale": amount_scale}
    config = config_for(preset, config_file, {"epochs": epochs, "minutes": minutes, **tokens}, continue_from)
    generated = {"users": users, "days": days, "seed": seed}
    table, profile = log_for(
        data, None if data == GENERATOR else format_of(format, data), LogPart(start, end, limit), generated
    )
    try:
        manifest = train_version(
            table,
            out,
            config=config,
            version=number,
            label_delay_ms=round(label_delay_days * DAY_MS),
            seed=seed,
            continue_from=continue_from,
            profile=profile,
        )
    except PretrainedElsewhere:  # not the first process of torchrun: only the first writes the artifact
        return
    if as_json:  # people have read it line by line (trainer.report.verdict)
        emit({"artifact": str(out), "version": number, "transactions": len(table), **manifest.metrics}, True)
    if not manifest.metrics["faults"]:
        lead_on(f"panther models load {out}, then panther models promote {out}", as_json)


@app.command()
def report(
    artifact: Artifact,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; report.html in the artifact if not given.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw the report of a version anew, as one HTML page, from what its training measured (report.json)."""
    from panther_core.artifact import PAGE
    from trainer.report.facts import load
    from trainer.report.version_page import write_page

    found, path = load(artifact), artifact / PAGE if out is None else out
    write_page(path, found)
    emit({"page": str(path), "version": found.about.version}, as_json)
    lead_on(f"open {path}", as_json)


@app.command("list")
def list_versions(as_json: Json = False) -> None:
    """Versions: when trained, how good on their test, threshold, which one is live, which ones Triton has loaded."""
    from panther_core.kafka.updates import updates
    from trainer.rollout.deploy import served
    from trainer.rollout.listing import versions

    history = asyncio.run(updates(answering_kafka()))
    settings = PantherSettings()
    loaded = served(settings.triton_url, settings.triton_headers)
    found = versions(Path(settings.models_dir), history, loaded)
    live = history[-1].version if history else None
    if as_json:
        return emit({"live": live, "loaded": loaded, "versions": found}, True)
    for one in found:
        ap = "unknown" if one["average_precision"] is None else f"{one['average_precision']:.3f}"
        alerts_from = "unknown" if one["threshold"] is None else f"{one['threshold']:.4f}"
        named = [one["alias"]] if one["alias"] else []
        marks = (
            named + [name for name in ("live", "loaded") if one[name]] + [f"fault: {fault}" for fault in one["faults"]]
        )
        say(
            escape(
                f"  {one['version']:>4}  trained {one['trained'] or 'unknown'}  AP of its test {ap}  threshold "
                f"{alerts_from}  {', '.join(marks) or 'not loaded'}  {one['artifact'] or ''}"
            )
        )
    if not found:
        say(escape(f"no version in {settings.models_dir}; next: panther models train --data PATH --out build/models/1"))
    elif live is None:
        say("none is live; next: panther models load FOLDER, then panther models promote FOLDER")
    return None


@app.command()
def load(
    artifact: Artifact,
    repository: Repository = REPOSITORY,
    as_json: Json = False,
) -> None:
    """Export an artifact into the model repository and load it; a canary inference of the new version decides."""
    from trainer.rollout.deploy import install

    behind_others()
    manifest, seconds = install(PantherSettings(), repository, artifact)
    emit({"version": manifest.version, "load_seconds": round(seconds, 2)}, as_json)
    lead_on(f"panther models promote {artifact}", as_json)


@app.command()
def promote(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of a loaded version, as the workers see it.")],
    new_states: Annotated[
        bool, typer.Option("--new-states", help="It may have another schema: workers begin under another app id.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even if its training says that it should not go live.")
    ] = False,
    instead_of: Seen = None,
    watch: Annotated[
        str | None, typer.Option(help="Watch it so long (10m) beside the one before, and roll back if it fails.")
    ] = None,
    repository: Repository = REPOSITORY,
    patience_s: Patience = 150,
    as_json: Json = False,
) -> None:
    """Make a loaded version the live one; exit code 0 only if every running worker has taken it, and it held its watch.

    Users move to it at their next event. A version that its own training found no good is refused.
    """
    from trainer.rollout.deploy import check_loaded, trusted_manifest
    from trainer.rollout.go_live import promote as announce
    from trainer.rollout.go_live import refuse, watch_or_go_back

    if new_states and watch is not None:
        raise typer.BadParameter("expected no --watch beside --new-states: workers with such states cannot go back")
    watch_s = None if watch is None else duration_s("--watch", watch)
    settings, folder = PantherSettings(), str(artifact.resolve())
    manifest = trusted_manifest(settings, artifact)
    if not anyway:
        refuse(manifest)
    check_loaded(settings.triton_url, repository, manifest)
    taken = announce(
        answering_kafka(),
        settings,
        manifest,
        folder,
        new_states=new_states,
        instead_of=instead_of,
        patience_s=patience_s,
    )
    taken.explain()
    checks = []
    if watch_s:
        checks = watch_or_go_back(answering_kafka(), settings, repository, artifact, watch_s)
    failed = [check.why for check in checks if not check.held]
    emit(taken.as_dict() | ({"rolled_back": failed} if watch_s else {}), as_json)
    if failed:
        lead_on("panther models list", as_json)
    else:
        lead_on("panther alerts --follow" if taken.workers else "panther merchants, panther worker", as_json)
    raise typer.Exit(0 if taken.ok and not failed else 1)


@app.command()
def warm(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder of a loaded version.")],
    seconds: Annotated[float, typer.Option(help="How long, for each server.")] = 5,
    as_json: Json = False,
) -> None:
    """Run made-up batches through a loaded version before traffic does: first and last round trip, ms."""
    from panther_core.artifact import load_manifest
    from trainer.rollout import deploy

    manifest = load_manifest(artifact)
    rounds = deploy.warm(PantherSettings().triton_url, manifest, seconds)
    emit({"version": manifest.version, "first_and_last_ms": rounds}, as_json)
    lead_on(f"panther models promote {artifact}", as_json)


@app.command()
def rollback(
    repository: Repository = REPOSITORY,
    to: Annotated[
        int | None, typer.Option(min=1, help="Version to go back to; the one before the live one if not given.")
    ] = None,
    instead_of: Seen = None,
    as_json: Json = False,
) -> None:
    """Make the version that was live before the present one live again; twice goes back twice, never forward."""
    from trainer.rollout.go_live import roll_back

    before, taken = roll_back(answering_kafka(), PantherSettings(), repository, to, instead_of)
    taken.explain()
    emit({"switched": f"{before} -> {taken.version}", **taken.as_dict()}, as_json)
    lead_on("panther models list", as_json)
    raise typer.Exit(0 if taken.ok else 1)


@app.command("keep-budget")
def keep_budget(
    days: Annotated[float, typer.Option(help="Of decisions to look at.", min=0.001)] = 1,
    as_json: Json = False,
) -> None:
    """Move the live version's threshold one step where it alerts on more than its budget, or on less; once."""
    from msgspec import to_builtins

    from trainer.rollout.budget import keep_budget as keep

    emit(to_builtins(keep(answering_kafka(), PantherSettings(), days)), as_json)
    lead_on("panther refresh --every 6h --keep-budget", as_json)


@app.command()
def retire(
    repository: Repository = REPOSITORY,
    patience_s: Annotated[float, typer.Option(help="How long to wait for the workers' sweeps.")] = 600,
    all: Annotated[bool, typer.Option("--all", help="The version before the live one too.")] = False,
    as_json: Json = False,
) -> None:
    """Unload what is neither live nor what a rollback goes back to, once no user is left on it."""
    from trainer.rollout.retire import retire as run

    behind_others()
    emit({"unloaded": run(answering_kafka(), PantherSettings(), repository, patience_s, all)}, as_json)
    lead_on("panther models list", as_json)


@app.command()
def unload(
    version: Annotated[int, typer.Argument(help="Version number.", min=1)],
    repository: Repository = REPOSITORY,
    force: Annotated[bool, typer.Option("--force", help="The live version too; Kafka is not asked.")] = False,
    as_json: Json = False,
) -> None:
    """Take a version that is not live out of service and out of the model repository."""
    from trainer.rollout.retire import unload as run

    run(None if force else answering_kafka(), PantherSettings(), repository, version)
    emit({"unloaded": version}, as_json)
    lead_on("panther models list", as_json)
