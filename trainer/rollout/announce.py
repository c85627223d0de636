"""Which model version is live: reads the history on `models.updates`, and writes the next record."""

from __future__ import annotations

from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.errors import ArtifactError, BadInput, FingerprintMismatch, PantherError
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate
from panther_core.data.topics import MODELS
from panther_core.kafka.updates import updates, updates_with_records


async def announce(
    kafka: KafkaSettings,
    manifest: Manifest,
    artifact: str,
    new_states: bool = False,
    instead_of: int | None = None,
    why: str = "promoted",
) -> None:
    """Make `manifest`'s version the live one. It must already be loaded and answering on Triton.

    `artifact`: folder of the version, as the workers see it. `instead_of`: the version that the caller has seen live, 0
    for none; the one that is live now if not given. `why`: in words, for people. Raises FingerprintMismatch for a
    version that cannot read the states that the live one's workers keep, unless they begin with `new_states`, under
    another PANTHER_APP_ID; BadInput where another version than `instead_of` is live, be it by a switch that comes to
    the topic a moment before this one.
    """
    history = await updates(kafka)
    live = history[-1] if history else None
    seen = (live.version if live else 0) if instead_of is None else instead_of
    if seen != (live.version if live else 0):
        raise switched(seen, live)
    if live and not new_states:
        check_states(manifest, live)
    await send(
        kafka,
        ModelUpdate(
            name=manifest.name,
            version=manifest.version,
            threshold=manifest.threshold,
            schema_fingerprint=manifest.schema_fingerprint,
            artifact=artifact,
            merchant_threshold=manifest.merchant_threshold,
            instead_of=seen,
            content=manifest.content,
            why=why,
        ),
    )


def switched(seen: int, live: ModelUpdate | None) -> BadInput:
    """The error for a switch that came too late: another version than the `seen` one is live."""
    return BadInput(
        f"expected version {seen or 'none'} to be live still, got {live.version if live else 'none'}: somebody has "
        "switched meanwhile, and nothing was changed; look at `panther models list`"
    )


def check_states(manifest: Manifest, live: ModelUpdate) -> None:
    """Raise FingerprintMismatch unless `manifest`'s version can go on with states made for the live one.

    Running workers refuse a version that cannot. A worker that starts has no version to compare it with.
    """
    wanted, got = [live.schema_fingerprint[:12]], [manifest.schema_fingerprint[:12]]
    try:
        before = load_manifest(Path(live.artifact))
    except (ArtifactError, OSError):
        pass  # pruned, or on another machine: then only the schemas are compared
    else:
        wanted += [str(before.context_length), str(before.cached_width)]
        got += [str(manifest.context_length), str(manifest.cached_width)]
    if wanted != got:
        raise FingerprintMismatch(
            f"expected a version that reads the states of version {live.version}, which is live (schema, context "
            f"length, cached width: {', '.join(wanted)}), got version {manifest.version} ({', '.join(got)}): promote "
            "it with --new-states, for workers under another PANTHER_APP_ID"
        )


def folder_of(update: ModelUpdate, models: Path) -> Path:
    """A version's artifact, as this machine sees it: under the announced path, or in the folder of models."""
    for folder in (Path(update.artifact), models / str(update.version)):
        try:
            manifest = load_manifest(folder)
            if manifest.version == update.version and update.content in ("", manifest.content):
                return folder
        except (PantherError, OSError):
            continue
    raise BadInput(
        f"expected the artifact of version {update.version}, as it went live, at {update.artifact} or in {models}, "
        "found none: copy it there, or set PANTHER_MODELS_DIR"
    )


def before_live(history: list[ModelUpdate], version: int | None = None) -> ModelUpdate:
    """The update to go back to: the newest of `version`, or, where none is named, the one before the live version.

    A version that goes live again takes back every version that came after it. So a second rollback goes further back,
    and never forward to a version that was rolled back from: after 1, 2, 3, 2 comes 1. Raises BadInput.
    """
    led: list[ModelUpdate] = []  # the versions that led to the live one, which is the last
    for update in history:
        known = [earlier.version for earlier in led]
        if update.version in known:
            del led[known.index(update.version) :]
        led.append(update)
    if version is not None:
        found = next((update for update in reversed(history) if update.version == version), None)
    else:
        found = led[-2] if len(led) > 1 else None
    if found is None:
        seen = sorted({update.version for update in history})
        wanted = f"version {version}" if version is not None else "an earlier version that was not taken back"
        raise BadInput(
            f"expected {wanted} on {MODELS} to go back to, found none (live: {history[-1].version if history else None}"
            f", ever live: {seen}): name one with --to, or promote one"
        )
    return found


async def previous(kafka: KafkaSettings) -> ModelUpdate:
    """The version that a rollback goes to. Raises BadInput when there is none."""
    return before_live(await updates(kafka))


async def send(kafka: KafkaSettings, update: ModelUpdate) -> None:
    """Write an update, and read back whether it took effect. Raises BadInput where it did not: somebody was quicker."""
    async with AIOKafkaProducer(**kafka.client_options(), acks="all", enable_idempotence=True) as producer:
        sent = await producer.send_and_wait(MODELS, msgspec.json.encode(update), key=update.name.encode())
    history = await updates_with_records(kafka)
    if sent.offset not in {record.offset for record, _ in history}:
        before = [found for record, found in history if record.offset < sent.offset]
        raise switched(update.instead_of or 0, before[-1] if before else None)
