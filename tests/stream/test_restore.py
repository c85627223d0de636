"""Bulk restore of a partition's store from a real changelog."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rocksdict import Options, Rdict

from panther_core.settings import KafkaSettings
from stream import restore as module
from stream.producer import make_producer
from stream.restore import restore


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, Rdict]]:
    opened = {p: Rdict(str(tmp_path / str(p)), Options(raw_mode=True)) for p in range(2)}
    yield opened
    for store in opened.values():
        store.close()


@pytest.fixture
def changelog(kafka: str, monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaSettings, str, list[dict[bytes, bytes]]]:
    """A topic of two partitions with overwritten and deleted keys, and what each should come to."""
    monkeypatch.setattr(module, "WORTH_IT", 100)
    settings, topic = KafkaSettings(bootstrap_servers=kafka), f"changelog-{uuid.uuid4().hex}"
    wanted: list[dict[bytes, bytes]] = [{}, {}]

    async def write() -> None:
        admin = AIOKafkaAdminClient(**settings.client_options())
        await admin.start()
        await admin.create_topics([NewTopic(topic, 2, 1)])
        await admin.close()
        async with make_producer(settings) as producer:
            for i in range(6000):
                partition, key = i % 2, b"user-%d" % (i // 2 % 700)
                value = None if i % 37 == 5 else b"%d" % i * 50
                await producer.send(topic, value, key=key, partition=partition)
                wanted[partition].pop(key, None)
                if value is not None:
                    wanted[partition][key] = value

    asyncio.run(write())
    return settings, topic, wanted


def test_a_store_holds_the_newest_value_of_every_key(
    changelog: tuple[KafkaSettings, str, list[dict[bytes, bytes]]], stores: dict[int, Rdict]
) -> None:
    settings, topic, wanted = changelog
    noted: dict[int, int] = {}
    done = asyncio.run(restore(settings, topic, stores, {0: -1, 1: -1}, noted.__setitem__))
    assert done == noted == {0: 2999, 1: 2999}
    for partition, store in stores.items():
        assert dict(store.items()) == wanted[partition]


def test_it_goes_on_after_what_a_store_has(
    changelog: tuple[KafkaSettings, str, list[dict[bytes, bytes]]], stores: dict[int, Rdict]
) -> None:
    settings, topic, wanted = changelog
    noted: dict[int, int] = {}
    # partition 0 says that it has all but the last 500 records, partition 1 lacks too few to be worth it
    done = asyncio.run(restore(settings, topic, stores, {0: 2499, 1: 2950}, noted.__setitem__))
    assert done == noted == {0: 2999}
    newest = dict(stores[0].items())
    assert 0 < len(newest) <= 500
    assert newest.items() <= wanted[0].items()
    assert not dict(stores[1].items())
