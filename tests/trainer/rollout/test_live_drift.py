"""What `panther drift` compares: the live version that Kafka names, and the log that Kafka or a folder holds."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.kafka import updates
from tests.topics import make_topics
from tests.trainer.log.test_store import write
from trainer.drift.look import Drift
from trainer.log.ingest import transaction_row
from trainer.log.store import LogStore
from trainer.rollout import announce, kafka_log
from trainer.rollout.live_drift import live_folder, look_at_log

SETTINGS = PantherSettings(partitions=1, partitioner="none")


@pytest.fixture
def stream(kafka: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """A broker with empty topics."""
    out = KafkaSettings(bootstrap_servers=kafka)
    names = {name: f"{name.lower()}-{uuid.uuid4().hex}" for name in ("TRANSACTIONS", "LABELS", "MODELS")}
    for name, topic in names.items():
        for place in (announce, updates) if name == "MODELS" else (kafka_log,):
            monkeypatch.setattr(place, name, topic)

    asyncio.run(make_topics(out, names.values()))
    return out


def produce(kafka: KafkaSettings, records: list[tuple[bytes, bytes]]) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(**kafka.client_options()) as producer:
            for key, value in records:
                await producer.send(kafka_log.TRANSACTIONS, value, key=key)

    asyncio.run(send())


def records(log: TransactionTable) -> list[tuple[bytes, bytes]]:
    return [(row.user_id.encode(), msgspec.json.encode(row)) for row in log.rows()]


def ingested(log: TransactionTable, folder: Path) -> Path:
    rows = [
        transaction_row(record(offset, *said, int(at)), SETTINGS, int(log.time_ms[-1]))
        for offset, (said, at) in enumerate(zip(records(log), log.time_ms, strict=True))
    ]
    write(LogStore(folder), rows)
    return folder


def record(offset: int, key: bytes, value: bytes, at_ms: int) -> Any:
    return SimpleNamespace(partition=0, offset=offset, timestamp=at_ms, key=key, value=value)


def test_the_log_of_kafka_and_that_of_a_folder_say_the_same(
    log: TransactionTable, artifact_folder: Path, stream: KafkaSettings, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="live version to compare with"):
        live_folder(stream, SETTINGS)
    asyncio.run(announce.announce(stream, load_manifest(artifact_folder), str(artifact_folder)))
    produce(stream, records(log))
    folder = live_folder(stream, SETTINGS)
    assert folder == artifact_folder

    def look(place: Path | None) -> Drift:
        return look_at_log(folder, place, stream, SETTINGS, 7, DAY_MS)

    found, again = look(None), look(ingested(log, tmp_path))
    assert not found.drifted
    assert found.realised is None, "no label has come"
    assert found.rows == int((log.time_ms >= log.time_ms[-1] + 1 - 7 * DAY_MS).sum())
    assert again.rows == found.rows
    assert np.allclose([one.now for one in found.findings], [one.now for one in again.findings], atol=1e-6)
