"""Commands of the training side. Heavy imports happen inside, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from panther_core.console import emit

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


@app.callback()
def models() -> None:
    """Train, deploy and retire model versions."""


@app.command()
def train(
    data: Annotated[str, typer.Option(help="File or folder of transactions, or `generator`.")] = "generator",
    format: Annotated[str, typer.Option(help="fdh, sparkov, tabformer or generic; ignored for the generator.")] = "fdh",
    out: Annotated[Path, typer.Option(help="Folder of the new artifact.")] = Path("build/models/1"),
    version: Annotated[int, typer.Option(help="Version number, 1 or more.", min=1)] = 1,
    preset: Annotated[str, typer.Option(help="demo or default.")] = "demo",
    epochs: Annotated[int | None, typer.Option(help="Passes of pretraining.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time limit of pretraining.")] = None,
    label_delay_days: Annotated[float, typer.Option(help="How late labels come.", min=0)] = 7,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    continue_from: Annotated[Path | None, typer.Option(help="Artifact to go on from.")] = None,
    users: Annotated[int, typer.Option(help="Users the generator makes.")] = 5000,
    days: Annotated[int, typer.Option(help="Days the generator makes.")] = 60,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many transactions.")] = None,
    as_json: Json = False,
) -> None:
    """Train a model version: pretrain, fine-tune, calibrate, evaluate, write the artifact."""
    from panther_core.generator import PROFILE, GeneratorConfig, generate
    from trainer.config import preset as preset_by_name
    from trainer.pipeline import DAY_MS
    from trainer.pipeline import train as run

    config = preset_by_name(preset)
    changes = {"epochs": epochs, "minutes": minutes}
    config = msgspec.structs.replace(config, **{k: v for k, v in changes.items() if v is not None})
    if data == "generator":
        table, profile = generate(GeneratorConfig(users=users, days=days, seed=seed)), PROFILE
    else:
        from panther_core.formats import read
        from panther_core.table_concat import concat

        table, profile = concat(list(read(format, Path(data), start=start, end=end, limit=limit))), None
    manifest = run(
        table,
        out,
        config=config,
        version=version,
        label_delay_ms=round(label_delay_days * DAY_MS),
        seed=seed,
        continue_from=continue_from,
        profile=profile,
    )
    emit({"artifact": str(out), "version": version, "transactions": len(table), **manifest.metrics}, as_json)


@app.command()
def deploy(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    repository: Annotated[Path, typer.Option(help="Triton model repository.")] = Path("build/triton"),
    triton_url: Annotated[str, typer.Option(help="host:port of Triton's gRPC end point.", envvar="TRITON_URL")] = (
        "127.0.0.1:18001"
    ),
    as_json: Json = False,
) -> None:
    """Export an artifact into the model repository and load it, with a canary inference of the new version."""
    from panther_core.artifact import load_manifest
    from trainer.deploy import export, load

    manifest = load_manifest(artifact)
    export(artifact, repository)
    seconds = load(triton_url, manifest)
    emit({"version": manifest.version, "load_seconds": round(seconds, 2)}, as_json)


@app.command()
def undeploy(
    version: Annotated[int, typer.Argument(help="Version number.")],
    repository: Annotated[Path, typer.Option(help="Triton model repository.")] = Path("build/triton"),
    triton_url: Annotated[str, typer.Option(help="host:port of Triton's gRPC end point.", envvar="TRITON_URL")] = (
        "127.0.0.1:18001"
    ),
) -> None:
    """Take a version out of service and out of the model repository."""
    from trainer.deploy import unload

    unload(triton_url, repository, version)
