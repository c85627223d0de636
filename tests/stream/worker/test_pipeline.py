"""Scheduling of micro-batches: what may be under way at the same time, and in which order it is acked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stream.worker import pipeline as module
from stream.worker.acker import Acker
from stream.worker.pipeline import Pipeline, Waiting
from stream.worker.state_store import StoredBatch


class Message:
    generation_id, partition = 7, 0

    def __init__(self, key: bytes | None, number: int, acked: list[int]) -> None:
        self.key, self.number, self.offset, self.acked = key, number, number, acked


class Event:
    """What pipeline and acker need of Faust's event."""

    def __init__(self, number: int, key: bytes | None, acked: list[int]) -> None:
        self.number, self.message = number, Message(key, number, acked)


class Consumer:
    def ack_all(self, messages: list[Message]) -> None:
        for message in messages:
            message.acked.append(message.number)


class App:
    consumer_generation_id = 7
    consumer = Consumer()


class Worked:
    """In a processor's place: notes what is under way together, and takes a random while."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.rng = np.random.default_rng(0)
        self.now: list[set[bytes]] = []
        self.together, self.overlaps, self.done = 0, 0, dict[bytes, list[int]]()
        self.deciding, self.most_deciding, self.batches = 0, 0, 0
        self.fail_at = fail_at

    async def prepare(self) -> None:
        """All partitions are open."""

    async def process(self, events: list[Any], decided: Callable[[], None], refused: list[Any]) -> StoredBatch:
        users = {event.message.key for event in events}
        self.overlaps += sum(bool(users & other) for other in self.now)
        self.now.append(users)
        self.batches += 1
        self.together = max(self.together, len(self.now))
        self.deciding += 1
        self.most_deciding = max(self.most_deciding, self.deciding)
        await asyncio.sleep(float(self.rng.uniform(0, 0.002)))
        self.deciding -= 1
        decided()
        await asyncio.sleep(float(self.rng.uniform(0, 0.004)))
        self.now.remove(users)
        for event in events:
            if event.number == self.fail_at:
                raise RuntimeError("planted")
            self.done.setdefault(event.message.key, []).append(event.number)
        return StoredBatch(App.consumer_generation_id, events)


class Source:
    """In the place of the agent's channel: batches, `pause_s` between them and before the end."""

    def __init__(self, batches: Iterator[list[Any]], pause_s: float = 0) -> None:
        self._batches, self._pause_s = batches, pause_s
        self._next: list[Any] = []

    async def wait(self) -> bool:
        if self._next == []:
            self._next = next(self._batches, [])
            await asyncio.sleep(0 if self._next else self._pause_s)
        return bool(self._next)

    def take(self, most: int) -> list[Any]:
        taken, self._next = self._next, []
        return taken


def run(worked: Worked, acked: list[int], count: int = 600, users: int = 200) -> dict[bytes, list[int]]:
    """Send `count` events through, up to three batches' worth at a time; returns what each user sent, fills `acked`."""
    rng, sent = np.random.default_rng(1), dict[bytes, list[int]]()

    def batches() -> Iterator[list[Any]]:
        number = 0
        while number < count:
            size = int(rng.integers(1, 12))
            batch = [Event(number + i, b"%d" % rng.integers(users), acked) for i in range(size)]
            for event in batch:
                sent.setdefault(event.message.key, []).append(event.number)
            number += size
            yield batch

    async def go() -> None:
        acker = Acker(App(), None)
        acking = asyncio.create_task(acker.run())
        try:
            await Pipeline(worked, acker, 3, 50).run(Source(batches()))  # type: ignore[arg-type]
            await acker.drained()
        finally:
            acking.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))
    return sent


def test_users_are_in_one_batch_at_a_time_in_their_order() -> None:
    worked, acked = Worked(), list[int]()
    sent = run(worked, acked)
    assert worked.together > 2, "batches ran at the same time, or the rest proves nothing"
    assert worked.most_deciding == 1
    assert worked.overlaps == 0
    assert worked.done == sent
    assert acked == sorted(acked)
    assert len(acked) == sum(map(len, sent.values()))


def test_a_failed_batch_ends_it_and_nothing_behind_it_is_acked() -> None:
    worked, acked = Worked(fail_at=300), list[int]()
    with pytest.raises(RuntimeError, match="planted"):
        run(worked, acked)
    assert acked
    assert max(acked) < 300


def test_a_claimed_user_waits_and_goes_on_when_released() -> None:
    worked, acked = Worked(), list[int]()

    # no other traffic that would wake anything
    source = Source(iter([[Event(0, b"claimed", acked), Event(1, b"free", acked)]]), pause_s=0.2)

    async def go() -> None:
        acker = Acker(App(), None)
        acking = asyncio.create_task(acker.run())
        pipeline = Pipeline(worked, acker, 2, 50)  # type: ignore[arg-type]
        assert pipeline.claim([b"claimed"]) == {b"claimed"}
        running = asyncio.create_task(pipeline.run(source))
        await asyncio.sleep(0.05)
        assert worked.done == {b"free": [1]}
        assert pipeline.claim([b"claimed"]) == set(), "nobody gets a claimed user"
        pipeline.release({b"claimed"})
        await asyncio.sleep(0.05)
        assert worked.done == {b"free": [1], b"claimed": [0]}
        await running
        await acker.drained()
        acking.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))
    assert acked == [0, 1]


def test_records_without_a_key_do_not_wait_for_each_other() -> None:
    worked, acked = Worked(), list[int]()

    async def go() -> None:
        acker = Acker(App(), None)
        acking = asyncio.create_task(acker.run())
        events = [Event(i, None, acked) for i in range(40)]
        await Pipeline(worked, acker, 2, 50).run(Source(iter([events])))  # type: ignore[arg-type]
        await acker.drained()
        acking.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))
    assert acked == list(range(40))
    assert worked.batches == 1


def test_a_hot_user_takes_no_room_of_others_and_is_refused_beyond_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OVERLOAD", 1000)
    waiting, acked = Waiting(), list[int]()
    waiting.add(Event(i, b"bot", acked) for i in range(1200))
    waiting.add(Event(i, b"user-%d" % i, acked) for i in range(10))
    assert (waiting.events, waiting.counted, len(waiting.refused), waiting.hot()) == (1010, 8 + 10, 200, 1)
    batch = waiting.take(waiting.free(set()), 512)
    assert [event.number for event in batch[:4]] == list(range(4)), "several of the hot user's, in their order"
    assert [event.message.key for event in batch[4:]] == [b"user-%d" % i for i in range(10)], "one of each other's"
    assert waiting.free({b"bot"}) == []
    while waiting.hot():
        waiting.take(waiting.free(set()), 512)
    assert len(waiting.take(waiting.free(set()), 512)) == 1, "below the limit each event waits for the one before"
