"""What a version is, and in what two versions differ: the manifests, and the gate's decision beside them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from panther_core.artifact import SIGNATURE, Manifest, load_manifest
from panther_core.base.errors import InvalidFile, SignatureRefused
from panther_core.base.files import regular_file
from panther_core.data.events import ModelUpdate
from panther_core.signature import signed_manifest
from trainer.rollout.aliases import aliases, versions_in

DECISION = "refresh.json"
_LARGEST = 1 << 20  # bytes of refresh.json
_WEIGHED = ("threshold", "alert_budget", "merchant_threshold", "vocabulary_size", "coverage")
_MADE = ("schema_fingerprint", "tokenizer_version", "code_version", "seed", "data_window", "context_length")


class _Check(msgspec.Struct):
    """A check of trainer.rollout.gate, which imports torch."""

    check: str
    held: bool
    champion: float | None
    challenger: float | None
    interval: list[float] | None
    why: str


class _Decision(msgspec.Struct):
    champion: int
    challenger: int
    promoted: bool
    gate: list[_Check]


def describe(
    folder: Path, models_dir: Path, history: list[ModelUpdate] | None, models_key: Path | None
) -> dict[str, Any]:
    """The version in `folder`, for JSON: its manifest's facts, the gate's decision on it, its signature, its alias, and
    which of the switches on `models.updates` were to it (the first is 1).

    `history`: None where Kafka was not asked; alias, live and switches are None then. `models_key`: of the signature.
    Raises ArtifactError; InvalidFile where the key, or refresh.json, cannot be read.
    """
    manifest = load_manifest(folder)
    out: dict[str, Any] = {"version": manifest.version, "artifact": str(folder), "alias": None, "live": None}
    out["switches"] = None
    if history is not None:
        named = aliases(history, versions_in(models_dir))
        out["alias"] = next((name for name, number in named.items() if number == manifest.version), None)
        out["live"] = bool(history) and history[-1].version == manifest.version
        out["switches"] = [at for at, update in enumerate(history, 1) if update.version == manifest.version]
    out |= {"name": manifest.name, "trained": _moment(manifest.created_at), **_facts(manifest)}
    out |= {"metrics": manifest.metrics.get("test", {}), "faults": manifest.metrics.get("faults", [])}
    out["config"] = msgspec.to_builtins(manifest.config)
    return out | {"gate": gate_of(folder), "signature": signature_state(folder, models_key)}


def diff(a: Path, b: Path) -> dict[str, Any]:
    """In what the version in `b` differs from the one in `a`: each fact as [a's, b's], missing where they are the same.

    `gate`: the decision on `b`, if it was judged beside `a`'s version; else None. Raises ArtifactError, InvalidFile.
    """
    one, other = load_manifest(a), load_manifest(b)
    judged = gate_of(b)
    pairs = {
        "facts": (_facts(one), _facts(other)),
        "config": (msgspec.to_builtins(one.config), msgspec.to_builtins(other.config)),
        "metrics": (one.metrics.get("test", {}), other.metrics.get("test", {})),
        "files": (one.files, other.files),
    }
    return {
        "a": {"version": one.version, "artifact": str(a)},
        "b": {"version": other.version, "artifact": str(b)},
        **{name: _differing(*pair) for name, pair in pairs.items()},
        "gate": judged if judged is not None and judged["champion"] == one.version else None,
    }


def gate_of(folder: Path) -> dict[str, Any] | None:
    """The gate's decision on the version (trainer.rollout.refresh writes it); None where it was never judged.

    Raises InvalidFile.
    """
    path = folder / DECISION
    if not path.exists():
        return None
    with regular_file(path, _LARGEST) as file:
        try:
            found = msgspec.json.decode(file.read(), type=_Decision)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidFile(f"expected a decision of the gate in {path}, got {error}: remove it") from None
    said: dict[str, Any] = msgspec.to_builtins(found)
    return said


def signature_state(folder: Path, models_key: Path | None) -> str:
    """`valid`, `none`, `not checked` (no key is named) or why it is refused. Raises InvalidFile for what is no key."""
    if models_key is None:
        return "not checked" if (folder / SIGNATURE).exists() else "none"
    try:
        signed_manifest(folder, models_key)
    except SignatureRefused as error:
        return str(error)
    return "valid"


def _facts(manifest: Manifest) -> dict[str, Any]:
    facts = {name: getattr(manifest, name) for name in (*_WEIGHED, *_MADE)}
    return facts | {"data_window": [_moment(moment) for moment in manifest.data_window]}


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys((*one, *other))
    return {name: [one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)}
