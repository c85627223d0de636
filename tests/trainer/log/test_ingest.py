"""`panther ingest` on a real Kafka: killed at any moment, the files are the topic."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaConnectionError

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.kafka.reading import read_topic
from stream.faust_parts.producer import make_producer
from tests.topics import make_topics
from trainer.log import ingest as module
from trainer.log.either import open_log
from trainer.log.ingest import Ingest
from trainer.log.store import LogBroken, LogStore

RUN = """
import asyncio, sys
from pathlib import Path
from panther_core.base.settings import KafkaSettings, PantherSettings
from trainer.log import ingest
folder, delta, kafka, app, *topics = sys.argv[1:]
names = dict(zip(("TRANSACTIONS", "LABELS"), topics))
ingest.SCHEMAS = {topic: schema for topic, schema in zip(topics, ingest.SCHEMAS.values())}
ingest.TRANSACTIONS = topics[0]
settings = PantherSettings(app_id=app, partitions=2)
kafka = KafkaSettings(bootstrap_servers=kafka)
asyncio.run(ingest.Ingest(kafka, settings, Path(folder), 40, 0.05, delta == "delta").run(once=False))
"""


@pytest.fixture
def topics(kafka: str) -> tuple[KafkaSettings, list[str]]:
    settings, mark = KafkaSettings(bootstrap_servers=kafka), uuid.uuid4().hex[:8]
    names = [f"paid-{mark}", f"told-{mark}"]

    asyncio.run(make_topics(settings, names, 2))
    return settings, names


async def send(kafka: KafkaSettings, topic: str, first: int, count: int) -> None:
    async with make_producer(kafka) as producer:
        for i in range(first, first + count):
            await producer.send(topic, b'{"number": %d}' % i, key=b"%d" % (i % 7))
        await producer.flush()


def digest(values: list[bytes | None]) -> str:
    return hashlib.sha256(b"\n".join(sorted(value or b"" for value in values))).hexdigest()


@pytest.mark.parametrize("kind", ["files", "delta"])
def test_whatever_is_killed_when_the_log_is_the_topic(
    topics: tuple[KafkaSettings, list[str]], tmp_path: Path, kind: str
) -> None:
    kafka, names = topics
    rng, app = random.Random(5), f"app-{uuid.uuid4().hex[:8]}"
    argv = [sys.executable, "-c", RUN, str(tmp_path), kind, kafka.bootstrap_servers, app, *names]
    for life in range(5):
        asyncio.run(send(kafka, names[0], 1000 * life, 400))
        asyncio.run(send(kafka, names[1], 1000 * life, 100))
        with subprocess.Popen(argv) as writer:
            time.sleep(rng.uniform(1.5, 4.0))
            writer.send_signal(signal.SIGKILL)
    store, wanted = open_log(tmp_path), {topic: asyncio.run(read_topic(kafka, topic)) for topic in names}
    with subprocess.Popen(argv) as writer:
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and any(store.rows(topic) < len(wanted[topic]) for topic in names):
            time.sleep(0.2)
        writer.send_signal(signal.SIGKILL)
    for topic, records in wanted.items():
        found = store.dataset(topic).to_table(columns=["partition", "offset", "value"]).to_pydict()
        places = list(zip(found["partition"], found["offset"], strict=True))
        assert len(places) == len(set(places)) == len(records)
        assert digest(found["value"]) == digest([record.value for record in records])
        if isinstance(store, LogStore):
            assert len(store.entries(topic)) < 30, "small batches were joined"


def test_a_topic_made_anew_is_not_taken_for_the_one_that_is_here(
    topics: tuple[KafkaSettings, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, names = topics
    monkeypatch.setattr(module, "SCHEMAS", dict(zip(names, module.SCHEMAS.values(), strict=True)))
    monkeypatch.setattr(module, "TRANSACTIONS", names[0])

    def ingest(partitions: int = 2) -> int:
        settings = PantherSettings(app_id=f"app-{uuid.uuid4().hex[:8]}", partitions=partitions)
        return asyncio.run(Ingest(kafka, settings, tmp_path, 1000, 60).run(once=True))

    asyncio.run(send(kafka, names[0], 0, 50))
    with pytest.raises(BadInput, match=r"PANTHER_PARTITIONS to be 2.* got 4"):
        ingest(partitions=4)  # payments that lie right would be filed as misplaced
    assert (ingest(), ingest()) == (50, 0), "what is here is not written again, by another group either"

    async def anew() -> None:
        admin = AIOKafkaAdminClient(**kafka.client_options())
        await admin.start()
        await admin.delete_topics([names[0]])
        while names[0] in await admin.list_topics():  # noqa: ASYNC110 - a broker tells no event
            await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(names[0], 2, 1)])
        await admin.close()

    asyncio.run(anew())
    asyncio.run(send(kafka, names[0], 500, 100))
    with pytest.raises(LogBroken, match="made anew; ingest it into another folder"):
        ingest()


def test_partitions_that_are_added_meanwhile_are_written_or_end_the_writing(
    topics: tuple[KafkaSettings, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No partition is passed over for as long as the process runs."""
    kafka, names = topics
    monkeypatch.setattr(module, "SCHEMAS", dict(zip(names, module.SCHEMAS.values(), strict=True)))
    monkeypatch.setattr(module, "TRANSACTIONS", names[0])
    monkeypatch.setattr(module, "_COUNT_S", 0.2)
    monkeypatch.setattr(module, "_LOOK_S", 0.2)
    counted, away = module.partitions_of, [False]

    async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
        if away[0]:
            raise KafkaConnectionError("no broker answers at this moment")
        return await counted(consumer, topic)

    monkeypatch.setattr(module, "partitions_of", partitions_of)
    settings = PantherSettings(app_id=f"app-{uuid.uuid4().hex[:8]}", partitions=2)

    async def grow(topic: str) -> None:
        admin = AIOKafkaAdminClient(**kafka.client_options())
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(3)})
        await admin.close()

    async def go() -> None:
        writer = Ingest(kafka, settings, tmp_path, 10, 0.05)
        running = asyncio.create_task(writer.run(once=False))
        await send(kafka, names[1], 0, 20)
        async with asyncio.timeout(60):
            while writer.written < 20:  # noqa: ASYNC110 - what it has written tells no event
                await asyncio.sleep(0.1)
            away[0] = True
            await asyncio.sleep(1)
            assert not running.done()
            away[0] = False
            await grow(names[1])
            async with make_producer(kafka) as producer:
                for i in range(20):
                    await producer.send(names[1], b'{"number": %d}' % i, partition=2)
            while writer.written < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # where users lie on transactions follows from the setting, which is not true any more
            await grow(names[0])
            with pytest.raises(BadInput, match=r"PANTHER_PARTITIONS to be 3.* got 2"):
                await running

    asyncio.run(go())
