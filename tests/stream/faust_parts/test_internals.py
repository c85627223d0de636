"""What stands in the place of private parts of Faust does what they did; their source is pinned in test_pins."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.faust_parts.consumer import _Consumer, _FetchSize
from stream.faust_parts.internals import Arrivals, lags


class State:
    """What is looked at of aiokafka's state of a partition."""

    def __init__(self, position: int | None, highwater: int | None, lso: int | None = None) -> None:
        self.position, self.highwater, self.lso = position, highwater, lso
        self.has_valid_position = position is not None


def consumer_with(states: dict[int, State]) -> Any:
    """A consumer of `transactions` whose partitions stand so; nothing was taken in."""
    parts = {TP("transactions", p): state for p, state in states.items()}
    assignment = SimpleNamespace(tps=set(parts), state_value=parts.__getitem__)
    consumer: Any = object.__new__(_Consumer)
    subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    consumer._thread = SimpleNamespace(_consumer=SimpleNamespace(_subscription=subscription))
    consumer.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda topic: topic == "transactions"))
    consumer.assignment = lambda: {*parts, TP("transactions", 99), TP("changelog", 0)}
    consumer._is_changelog_tp = lambda tp: tp.topic == "changelog"
    consumer._handed, consumer._settled, consumer._resting, consumer._held_back = {}, {}, {}, set()
    consumer._committed_offset = defaultdict(lambda: None)
    consumer._n_acked, consumer._unacked_messages, consumer._waiting_for_ack = 0, set(), None
    return consumer


def test_a_partition_is_committed_up_to_its_last_ack() -> None:
    consumer = consumer_with({0: State(8, 8)})
    messages = []
    for topic, partition, offset in (
        ("transactions", 0, 3),
        ("transactions", 1, 4),
        ("transactions", 1, 5),
        ("x", 0, 1),
    ):
        tp = TP(topic, partition)
        messages.append(ConsumerMessage(*tp, offset, 0.0, 0, [], b"k", b"v", None, tp=tp))
        messages[-1].incref(2 if offset == 3 else 1)
    consumer._unacked_messages.update(messages)
    consumer.ack_all(messages)
    assert consumer._settled == {TP("transactions", 1): 6}, "another holds the message at offset 3, and x has no acks"
    consumer.ack_all(messages)
    assert consumer._settled == {TP("transactions", 0): 4, TP("transactions", 1): 6}
    assert sorted(consumer._filter_tps_with_pending_acks()) == [TP("transactions", 0), TP("transactions", 1)]
    assert consumer._new_offset(TP("transactions", 0)) == 4
    assert consumer._new_offset(TP("transactions", 7)) is None


def test_offsets_without_records_are_settled_once_a_partition_rests() -> None:
    """Markers of transactions and deleted records: they look like lag for ever else."""
    at = TP("transactions", 0)
    consumer = consumer_with({0: State(12, 12)})
    consumer._handed[at] = 9  # 10 and 11 are markers
    consumer._settle_resting()
    consumer._settle_resting()
    assert at not in consumer._settled, "the record at 9 is not done"
    consumer._settled[at] = 10
    consumer._settle_resting()
    consumer._settle_resting()
    assert consumer._settled[at] == 12
    trimmed = consumer_with({0: State(200_000_000, 200_000_000)})
    trimmed._committed_offset[at] = 1000
    trimmed._settle_resting()
    assert at not in trimmed._settled, "records may be on their way"
    trimmed._settle_resting()
    assert trimmed._settled[at] == 200_000_000
    held = consumer_with({0: State(12, 12)})
    held._held_back = {at}  # will be put back
    held._settle_resting()
    held._settle_resting()
    assert not held._settled


def test_a_fetch_waits_for_what_comes_in_a_moment_at_the_present_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("stream.faust_parts.consumer.time.monotonic", lambda: now)
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
    return Arrivals(stream, 0, 1)


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
    states = {
        0: State(9, 10),
        1: State(10, 10),
        2: State(0, 4),
        3: State(None, None),
        4: State(12, 12),
        5: State(7, 20, 7),
    }
    consumer = consumer_with(states)
    at = {p: TP("transactions", p) for p in states}
    consumer._handed |= {at[0]: 6, at[1]: 9, at[4]: 9, at[5]: 6}
    consumer._settled |= {at[0]: 5, at[1]: 8, at[4]: 12, at[5]: 7}
    app = SimpleNamespace(consumer=consumer)
    # taken in up to offset 6 of 10; all of it; nothing yet; not fetched yet; all but markers; all that may be read
    assert lags(app, "transactions") == {0: 3, 1: 0, 2: 4, 4: 0, 5: 0}


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
