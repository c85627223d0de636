"""Tells the workers which model version is live: one record on `models.updates`."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer

from panther_core.artifact import Manifest
from panther_core.events import ModelUpdate
from panther_core.settings import KafkaSettings
from panther_core.topics import MODELS


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
    async with AIOKafkaProducer(**kafka.client_options(), acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(MODELS, msgspec.json.encode(update), key=manifest.name.encode())
