"""`panther merchants` on a real Kafka: killed, restored elsewhere, and handed everything twice, it counts once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from infra.local.process import ManagedProcess
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data import topics
from panther_core.data.events import ModelUpdate
from panther_core.data.merchant_events import MerchantEvent, MerchantRiskRecord
from panther_core.decide.records import to_json
from panther_core.entities.merchants import decode_merchants
from panther_core.kafka.partitioner import partition_of
from panther_core.kafka.reading import read_topic
from stream.faust_parts.producer import make_producer
from stream.merchants.history import records, take_in
from tests.stream.merchants.test_history import THRESHOLD, events

_PARTITIONS = 2


class Place:
    """An application of its own on the suite's Kafka."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self.app_id, self.folder = f"m-{uuid.uuid4().hex[:8]}", folder
        self.kafka = KafkaSettings(bootstrap_servers=kafka)
        self.settings = PantherSettings(app_id=self.app_id, partitions=_PARTITIONS)
        self.environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "PANTHER_APP_ID": self.app_id,
            "PANTHER_TOPIC_PREFIX": f"{self.app_id}.",
            "PANTHER_PARTITIONS": str(_PARTITIONS),
        }

    def topic(self, name: str) -> str:
        return f"{self.app_id}.{name}"

    def start(self, name: str) -> ManagedProcess:
        argv = [str(Path(sys.prefix) / "bin" / "panther"), "merchants", "--data-dir", str(self.folder / name)]
        return ManagedProcess.start(name, argv, self.folder / f"{name}.log", env=self.environment)

    async def send(self, written: list[MerchantEvent]) -> None:
        producer = make_producer(self.kafka)
        await producer.start()
        for event in written:
            await producer.send(self.topic("merchant.events"), msgspec.json.encode(event), event.merchant_id.encode())
        await producer.flush()
        await producer.stop()

    async def promote(self) -> None:
        """A model version goes live, with the threshold of alerts on merchants."""
        update = ModelUpdate(
            name="panther", version=1, threshold=0.5, schema_fingerprint="f", artifact="a", merchant_threshold=THRESHOLD
        )
        async with make_producer(self.kafka) as producer:
            await producer.send(self.topic("models.updates"), msgspec.json.encode(update), b"panther")
            await producer.flush()

    def newest(self, topic: str) -> dict[bytes, bytes]:
        """The newest value of each key; of states the one with the most events."""
        return {r.key: r.value for r in asyncio.run(read_topic(self.kafka, topic)) if r.key and r.value}

    def wait_for(self, count: int) -> None:
        """Until so many events are in the states on the changelog."""
        end = time.monotonic() + 60
        changelog = topics.changelog_of(topics.merchants_app(self.app_id), "merchants")
        while (got := self.counted(changelog)) < count:
            assert time.monotonic() < end, f"{got} of {count} events are counted"
            time.sleep(0.3)

    def counted(self, changelog: str) -> int:
        states = [value for key, value in self.newest(changelog).items() if b"\0" not in key]
        return int(decode_merchants(states)["n"].sum()) if states else 0


def test_killed_and_restored_it_counts_every_event_once(kafka: str, tmp_path: Path, monkeypatch: Any) -> None:
    place = Place(kafka, tmp_path)
    prefix = {name: f"{place.app_id}.{name}" for name in ("merchant.events", "merchant.risk", "merchant.alerts")}
    written = sorted(events(1500, seed=3), key=lambda event: event.time_ms)
    prepare = [sys.executable, "-c", "from infra.create_topics import create_topics as c\n"
               "from panther_core.base.settings import *\nimport asyncio\n"
               "asyncio.run(c(KafkaSettings(), PantherSettings()))"]  # fmt: skip
    assert asyncio.run(_run(prepare, place.environment)) == 0
    asyncio.run(place.promote())
    first = place.start("first")
    try:
        asyncio.run(place.send(written[:900]))
        place.wait_for(100)
        os.killpg(first.ref.pid, signal.SIGKILL)
    finally:
        first.stop()
    asyncio.run(place.send(written[600:]))  # a third of it again
    second = place.start("second")  # in another folder: its states come from the changelog
    try:
        place.wait_for(len(written))
        assert second.stop()
    finally:
        second.stop()

    plain, alerts = dict[bytes, bytes](), set[bytes]()
    for partition in range(_PARTITIONS):
        own = [e for e in written if partition_of(e.merchant_id.encode(), _PARTITIONS, "murmur2") == partition]
        outcome = take_in([*enumerate(own)], lambda keys: [None] * len(keys), threshold=THRESHOLD)
        plain |= dict(outcome.stored)
        alerts |= {to_json(alert) for alert in outcome.alerts}
    want = {key: value for key, value in plain.items() if b"\0" not in key}
    changelog = place.newest(topics.changelog_of(topics.merchants_app(place.app_id), "merchants"))
    last = max(event.time_ms for event in written) // DAY_MS
    for key, value in want.items():
        there, here = (records(["m"], decode_merchants([v]), np.array([last * 24])) for v in (changelog[key], value))
        assert there == here
    risk = [msgspec.json.decode(v, type=MerchantRiskRecord) for v in place.newest(prefix["merchant.risk"]).values()]
    assert {record.merchant_id.encode() for record in risk} == want.keys()
    assert sum(record.events for record in risk) == len(written)
    published = [r.value for r in asyncio.run(read_topic(place.kafka, prefix["merchant.alerts"]))]
    assert {*published} == alerts, "one that is published again is the same to the byte"
    assert len(alerts) > 5


async def _run(argv: list[str], environment: dict[str, str]) -> int | None:
    process = await asyncio.create_subprocess_exec(*argv, env=environment)
    return await process.wait()
