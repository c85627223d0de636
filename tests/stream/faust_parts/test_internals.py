"""What stands in the place of private parts of Faust does what they did; their source is pinned in test_pins."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.faust_parts.internals import Arrivals, _Consumer, _FetchSize, lags


def test_acks_of_many_messages_are_those_of_each() -> None:
    def consumer() -> Any:
        made: Any = object.__new__(_Consumer)
        made.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda topic: topic == "transactions"))
        made._committed_offset = defaultdict(lambda: None, {TP("transactions", 1): 5})
        made._acked_index, made._acked, made._n_acked = defaultdict(set), defaultdict(list), 0
        made._unacked_messages, made._waiting_for_ack = set(), None
        return made

    def messages() -> list[Any]:
        out = []
        for topic, partition, offset in (
            ("transactions", 0, 3),
            ("transactions", 1, 4),
            ("transactions", 1, 5),
            ("x", 0, 1),
        ):
            tp = TP(topic, partition)
            out.append(ConsumerMessage(*tp, offset, 0.0, 0, [], b"k", b"v", None, tp=tp))
            out[-1].incref(2 if offset == 3 else 1)
        return [*out, out[2]]

    one, all_ = consumer(), consumer()
    for _ in range(2):
        taken, same = messages(), messages()
        one._unacked_messages.update(taken)
        all_._unacked_messages.update(same)
        for message in taken:
            message.ack(one)
        all_.ack_all(same)
    for name in ("_acked_index", "_acked", "_n_acked"):
        assert getattr(one, name) == getattr(all_, name), name
    assert all_._acked == {TP("transactions", 1): [5]}
    assert len(one._unacked_messages) == len(all_._unacked_messages)


def test_a_fetch_waits_for_what_comes_in_a_moment_at_the_present_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("stream.faust_parts.internals.time.monotonic", lambda: now)
    size, fetcher = _FetchSize(), SimpleNamespace(_fetch_min_bytes=1)
    for _ in range(100):  # 1,000,000 bytes a second
        now += 0.01
        size.set(fetcher, 10_000)
    assert 4_000 < fetcher._fetch_min_bytes < 6_000
    for _ in range(100):  # a record now and then
        now += 0.25
        size.set(fetcher, 100)
    assert fetcher._fetch_min_bytes == 2
    now += 1
    size.set(fetcher, 0)
    assert fetcher._fetch_min_bytes == 1


def test_a_seek_is_made_in_the_consumers_own_thread() -> None:
    called: list[Any] = []

    class Thread:
        def _ensure_consumer(self) -> Any:
            return SimpleNamespace(seek="consumer.seek")

        async def call_thread(self, *args: Any) -> None:
            called.append(args)

    asyncio.run(_Consumer._seek(SimpleNamespace(_thread=Thread()), TP("t", 1), 5))  # type: ignore[arg-type]
    assert called == [("consumer.seek", TP("t", 1), 5)]


class Queue(asyncio.Queue[Any]):
    """Faust's throws what was put into it as an error."""

    def get_nowait(self) -> Any:
        item = super().get_nowait()
        if isinstance(item, Exception):
            raise item
        return item


def arrivals(*items: Any) -> Arrivals:
    async def started() -> None:
        return None

    queue = Queue()
    for item in items:
        queue.put_nowait(item)
    app = SimpleNamespace(
        consumer_generation_id=3,
        flow_control=SimpleNamespace(is_active=lambda: True),
        consumer=SimpleNamespace(_unacked_messages=set()),
    )
    stream = SimpleNamespace(app=app, channel=SimpleNamespace(queue=queue), maybe_start=started, should_stop=False)
    return Arrivals(stream, 0)


class Message:
    """What arrivals look at."""

    def __init__(self, generation_id: int) -> None:
        self.generation_id, self.tracked = generation_id, False


def test_arrivals_give_what_is_there_in_order_and_drop_an_earlier_generations() -> None:
    events = [SimpleNamespace(number=i, message=Message(2 if i in (0, 4) else 3)) for i in range(8)]
    source = arrivals(*events)
    taken: list[int] = []
    for most in (3, 2, 5):
        assert asyncio.run(source.wait())
        taken += [event.number for event in source.take(most)]
    assert taken == [1, 2, 3, 5, 6, 7]
    assert len(source._stream.app.consumer._unacked_messages) == 6


def test_arrivals_end_with_their_stream() -> None:
    event = SimpleNamespace(number=0, message=Message(3))
    source = arrivals(event, StopAsyncIteration())
    assert asyncio.run(source.wait())
    assert source.take(10) == [event]
    assert not asyncio.run(source.wait())


def test_lag_is_what_was_not_taken_in() -> None:
    class Consumer:
        _read_offset: ClassVar[dict[TP, int | None]] = defaultdict(
            lambda: None, {TP("transactions", 0): 6, TP("transactions", 1): 9}
        )
        ends: ClassVar[dict[int, int | None]] = {0: 10, 1: 10, 2: 4, 3: None}

        def assignment(self) -> set[TP]:
            return {TP("transactions", p) for p in range(5)} | {TP("changelog", 0)}

        def highwater(self, tp: TP) -> int | None:
            if tp.partition == 4:
                raise AssertionError("no longer assigned")
            return self.ends[tp.partition]

    app = SimpleNamespace(consumer=Consumer())
    # read up to offset 6 of 10, all, nothing yet, not fetched yet, taken away at this moment
    assert lags(app, "transactions") == {0: 3, 1: 0, 2: 4}


def test_after_two_rebalances_in_a_row_nothing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was held back in the first one lies beyond what is committed: what is between would be acked unread."""
    tp, arriving, sought = TP("transactions", 0), [427, 428], list[tuple[TP, int]]()

    async def getmany(self: Any, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        for offset in arriving:
            yield tp, SimpleNamespace(offset=offset)

    async def seek(partition: TP, offset: int) -> None:
        sought.append((partition, offset))

    monkeypatch.setattr(driver.Consumer, "getmany", getmany)
    consumer: Any = object.__new__(_Consumer)
    consumer.app = SimpleNamespace(rebalancing=True, consumer_generation_id=4)
    consumer._held_back, consumer._read_offset, consumer._is_changelog_tp = set(), {tp: 400}, lambda _: False
    consumer.seek, consumer.assignment = seek, lambda: {tp}

    async def delivered() -> list[int]:
        return [message.offset async for _, message in consumer.getmany(1.0)]

    assert asyncio.run(delivered()) == []
    consumer.app.consumer_generation_id = 5
    assert asyncio.run(delivered()) == []
    assert not sought
    consumer.app.rebalancing, arriving = False, [400]
    assert asyncio.run(delivered()) == [400]
    assert sought == [(tp, 400)]


def test_a_fetch_from_before_a_rebalance_that_comes_after_it_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records lie beyond those that were taken in before and dropped: those would be acked unread."""
    tp, sought = TP("transactions", 0), list[tuple[TP, int]]()
    consumer: Any = object.__new__(_Consumer)
    consumer.app = SimpleNamespace(rebalancing=False, consumer_generation_id=1)
    consumer._held_back, consumer._read_offset, consumer._is_changelog_tp = set(), {tp: 42}, lambda _: False

    async def getmany(self: Any, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        if not sought:
            consumer.app.consumer_generation_id = 2  # a whole rebalance while the fetch is under way
        yield tp, SimpleNamespace(offset=42 if sought else 44)

    async def seek(partition: TP, offset: int) -> None:
        sought.append((partition, offset))

    monkeypatch.setattr(driver.Consumer, "getmany", getmany)
    consumer.seek, consumer.assignment = seek, lambda: {tp}

    async def delivered() -> list[int]:
        return [message.offset async for _, message in consumer.getmany(1.0)]

    assert asyncio.run(delivered()) == []
    assert asyncio.run(delivered()) == [42]
    assert sought == [(tp, 42)]


def test_partitions_without_a_committed_offset_go_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka leaves them where they are."""
    sought: list[tuple[TP, int]] = []
    consumer: Any = object.__new__(_Consumer)
    consumer._is_changelog_tp = lambda tp: tp.topic == "changelog"
    committed = {
        TP("transactions", 0): 7,
        TP("transactions", 1): None,
        TP("transactions", 2): 0,
        TP("changelog", 1): None,
    }

    async def seek_to_committed(self: Any) -> Any:
        return committed

    async def seek(tp: TP, offset: int) -> None:
        sought.append((tp, offset))

    async def earliest_offsets(tp: TP) -> dict[TP, int]:
        return {tp: 3 if tp.partition == 1 else 0}

    monkeypatch.setattr(driver.Consumer, "seek_to_committed", seek_to_committed)
    consumer.seek, consumer.earliest_offsets = seek, earliest_offsets
    assert asyncio.run(consumer.seek_to_committed()) == committed
    assert sought == [(TP("transactions", 1), 3), (TP("transactions", 2), 0)]
