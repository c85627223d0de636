"""Which model version is live: reads the history on `models.updates`, and writes the next record."""

from __future__ import annotations

from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.errors import ArtifactError, BadInput, FingerprintMismatch
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate
from panther_core.data.topics import MODELS
from panther_core.kafka.answers import decode_update
from panther_core.kafka.reading import read_topic


async def announce(kafka: KafkaSettings, manifest: Manifest, artifact: str, new_states: bool = False) -> None:
    """Make `manifest`'s version the live one. It must already be loaded and answering on Triton.

    `artifact`: folder of the version, as the workers see it. Raises FingerprintMismatch for a version that cannot read
    the states that the live one's workers keep, unless they begin with `new_states`, under another PANTHER_APP_ID.
    """
    history = await updates(kafka)
    if history and not new_states:
        check_states(manifest, history[-1])
    update = ModelUpdate(
        name=manifest.name,
        version=manifest.version,
        threshold=manifest.threshold,
        schema_fingerprint=manifest.schema_fingerprint,
        artifact=artifact,
    )
    await _send(kafka, update)


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


async def updates(kafka: KafkaSettings) -> list[ModelUpdate]:
    """Every switch so far, oldest first; the last one is live."""
    return [decode_update(record.value or b"") for record in await read_topic(kafka, MODELS)]


async def previous(kafka: KafkaSettings) -> ModelUpdate:
    """The version that was live before the present one. Raises BadInput when there is none."""
    history = await updates(kafka)
    live = history[-1].version if history else None
    before = next((update for update in reversed(history) if update.version != live), None)
    if before is None:
        raise BadInput(f"expected an earlier version on {MODELS} to go back to, found none (live: {live})")
    return before


async def _send(kafka: KafkaSettings, update: ModelUpdate) -> None:
    async with AIOKafkaProducer(**kafka.client_options(), acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(MODELS, msgspec.json.encode(update), key=update.name.encode())
