"""Bulk restore of a partition's store from a real changelog."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from panther_core.base.settings import KafkaSettings
from stream.faust_parts import restore as module
from stream.faust_parts.producer import make_producer
from stream.faust_parts.restore import restore
from tests.topics import make_topics


def state(n: int, rest: bytes = b"") -> bytes:
    """Bytes that say, where a state says it, that it has seen `n` events."""
    return bytes(14) + n.to_bytes(8, "little") + rest


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, Rdict]]:
    opened = {p: Rdict(str(tmp_path / str(p)), Options(raw_mode=True)) for p in range(2)}
    yield opened
    for store in opened.values():
        store.close()


@pytest.fixture
def changelog(kafka: str) -> tuple[KafkaSettings, str, list[dict[bytes, bytes]]]:
    """A topic of two partitions with overwritten and deleted keys, and what each should come to."""
    settings, topic = KafkaSettings(bootstrap_servers=kafka), f"changelog-{uuid.uuid4().hex}"
    wanted: list[dict[bytes, bytes]] = [{}, {}]

    async def write() -> None:
        await make_topics(settings, [topic], 2)
        async with make_producer(settings) as producer:
            for i in range(6000):
                partition, key = i % 2, b"user-%d" % (i // 2 % 700)
                value = None if i % 37 == 5 else state(i, b"%d" % i * 50)
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


@dataclass
class Change:
    key: bytes
    value: bytes | None


def test_a_stale_state_of_a_former_owner_changes_nothing(stores: dict[int, Rdict]) -> None:
    """A worker that was suspended wakes, and sends what it had made before: after the new owner's records."""
    store = stores[0]
    store[b"stored"], store[b"anew"], store[b"spoilt"] = state(9, b"own"), state(50), state(50)
    changes = [
        *(Change(b"stored", state(8)), Change(b"stored", state(9, b"later of equals"))),
        *(Change(b"both here", state(5, b"new owner")), Change(b"both here", state(4, b"former owner"))),
        *(Change(b"gone", state(7)), Change(b"gone", None)),
        *(Change(b"back", state(7)), Change(b"back", None), Change(b"back", state(1))),
        # a user who was deleted and had two events since, all in one fetch
        *(Change(b"anew", state(50)), Change(b"anew", None), Change(b"anew", state(1)), Change(b"anew", state(2))),
        Change(b"spoilt", None),
    ]
    store.write(module.newest(store, changes))
    assert dict(store.items()) == {
        b"stored": state(9, b"later of equals"),
        b"both here": state(5, b"new owner"),
        b"back": state(1),
        b"anew": state(2),
    }
