"""`panther models show`, `diff`, `sign`, `verify` and `mirror`: what the versions are, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.options import Json, answering_kafka
from panther_core.base.console import emit, lead_on, say
from panther_core.base.errors import BadInput, KafkaUnavailable
from panther_core.base.settings import PantherSettings
from panther_core.data.events import ModelUpdate

app = typer.Typer()
_NAMED = "champion, previous or challenger, a version's number, or a folder."
Version = Annotated[str, typer.Argument(help=_NAMED)]
Artifact = Annotated[Path, typer.Argument(help="Artifact folder.")]


@app.command()
def show(version: Version, as_json: Json = False) -> None:
    """What a version is: how it was made, its figures, the gate's decision, its signature, when it was live."""
    from trainer.rollout.describe import describe

    settings = PantherSettings()
    history = _history(version)
    folder = _resolved(version, settings, history)
    found = describe(folder, Path(settings.models_dir), history, settings.models_key)
    if as_json:
        return emit(found, True)
    parts = {name: found.pop(name) for name in ("metrics", "config", "gate")}
    for name, value in found.items():
        if value is not None:
            _line(name, value)
    for part in ("metrics", "config"):
        _line(part, "  ".join(f"{name} {_short(value)}" for name, value in parts[part].items()))
    _gate(parts["gate"])
    lead_on(f"panther models diff champion {version}" if not found["live"] else "panther models list")
    return None


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help=_NAMED)],
    b: Annotated[str, typer.Argument(help="The one compared with it, named in the same way.")],
    as_json: Json = False,
) -> None:
    """In what version B differs from version A, and how the gate judged B where it was beside A."""
    from trainer.rollout.describe import diff as compare

    settings = PantherSettings()
    history = _history(a, b)
    found = compare(*(_resolved(word, settings, history) for word in (a, b)))
    if as_json:
        return emit(found, True)
    for side in ("a", "b"):
        _line(side, f"version {found[side]['version']} in {found[side]['artifact']}")
    for part in ("facts", "config", "metrics", "files"):
        for name, (before, after) in found[part].items():
            _line(name, f"{_short(before)} -> {_short(after)}")
    _gate(found["gate"])
    lead_on(f"panther models show {b}")
    return None


@app.command()
def sign(
    artifact: Artifact,
    key: Annotated[Path, typer.Option(help="Private key of minisign without a password (`minisign -G -W`).")],
    as_json: Json = False,
) -> None:
    """Sign a version with a private key, so that systems that know the public one take it."""
    from panther_core.signature import sign as write_signature

    emit({"signature": str(write_signature(artifact, key))}, as_json)
    lead_on(f"panther models load {artifact}, where PANTHER_MODELS_KEY names the public key", as_json)


@app.command()
def verify(
    artifact: Artifact,
    public_key: Annotated[
        Path | None, typer.Option(help="Public key of minisign; PANTHER_MODELS_KEY if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether a version is as the holder of a key signed it; exit code 0 only then."""
    from panther_core.signature import signed_manifest

    if (key := public_key or PantherSettings().models_key) is None:
        raise BadInput("expected a public key, got none: name one with --public-key, or set PANTHER_MODELS_KEY")
    emit({"version": signed_manifest(artifact, key).version, "signature": "valid"}, as_json)
    lead_on(f"panther models load {artifact}", as_json)


@app.command()
def mirror(as_json: Json = False) -> None:
    """Bring MLflow (MLFLOW_TRACKING_URI) up to date: every version, and the aliases; exit code 0 only if it is."""
    from panther_core.kafka.updates import updates
    from trainer.rollout.mlflow_mirror import reconcile, tracking_uri

    if tracking_uri() is None:
        raise BadInput("expected the address of an MLflow server in MLFLOW_TRACKING_URI, got none: set it")
    history = asyncio.run(updates(answering_kafka()))
    ok = reconcile(history, Path(PantherSettings().models_dir))
    emit({"ok": ok}, as_json)
    lead_on("panther models list", as_json)
    raise typer.Exit(0 if ok else 1)


def _history(*words: str) -> list[ModelUpdate] | None:
    """The switches so far. None, which is said, where Kafka does not answer and no alias is asked for."""
    from panther_core.kafka.updates import updates
    from trainer.rollout.aliases import ALIASES

    try:
        return asyncio.run(updates(answering_kafka()))
    except KafkaUnavailable as error:
        if any(word in ALIASES for word in words):
            raise
        say(escape(f"which versions were live is not known: {error}"))
        return None


def _resolved(word: str, settings: PantherSettings, history: list[ModelUpdate] | None) -> Path:
    from trainer.rollout.aliases import resolve

    return resolve(word, Path(settings.models_dir), history or [])


def _gate(found: Mapping[str, Any] | None) -> None:
    if found is None:
        return
    decision = "promoted" if found["promoted"] else "not promoted"
    _line("gate", f"version {found['challenger']} beside version {found['champion']}: {decision}")
    for check in found["gate"]:
        say(escape(f"  {'held' if check['held'] else 'NOT HELD':8} {check['check']}: {check['why']}"))


def _line(name: str, value: object) -> None:
    say(f"  [bold]{escape(name)}[/]  {escape(_short(value))}")


def _short(value: object) -> str:
    """As people read it: six digits of a number, twelve characters of a checksum."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value)) or "none"
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
