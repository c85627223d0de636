"""Which model version is live: the history on `models.updates`, and the next record of it."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer

from panther_core.artifact import Manifest
from panther_core.errors import BadInput
from panther_core.events import ModelUpdate
from panther_core.settings import KafkaSettings
from panther_core.topics import MODELS
from trainer.kafka_log import read_topic


async def announce(kafka: KafkaSettings, manifest: Manifest, artifact: str) -> None:
    """Make `manifest`'s version the live one. It must already be loaded and answering on Triton.

    `artifact`: folder of the version, as the workers see it.
    """
    update = ModelUpdate(
        name=manifest.name,
        version=manifest.version,
        threshold=manifest.threshold,
        schema_fingerprint=manifest.schema_fingerprint,
        artifact=artifact,
    )
    await _send(kafka, update)


async def updates(kafka: KafkaSettings) -> list[ModelUpdate]:
    """Every switch so far, oldest first; the last one is live."""
    decode = msgspec.json.Decoder(ModelUpdate).decode
    return [decode(record.value or b"") for record in await read_topic(kafka, MODELS)]


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
