"""The private parts of Faust that the worker leans on: these fail when a new version moves one."""

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, ClassVar

import faust
import mode
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from faust.stores import rocksdb
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor, ConductorCompiler
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.faust_parts.internals import Arrivals, LowLatencyTransport, _Consumer, _FetchSize, lags


def test_versions_are_the_ones_it_was_written_for() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("mode-streaming") == "0.7.1"
    assert version("aiokafka") == "0.14.0"


def test_the_long_poll_can_be_shortened() -> None:
    assert "_fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "_create_worker_consumer" in vars(driver.AIOKafkaConsumerThread)
    assert "_new_consumer_thread" in vars(driver.Consumer)
    assert issubclass(LowLatencyTransport.Consumer, driver.Consumer)


def test_micro_batches_and_acks() -> None:
    source = inspect.getsource(Consumer)
    for name in ("_unacked_messages", "_is_changelog_tp", "perform_seek", "_read_offset"):
        assert name in source
    assert "rebalancing" in inspect.getsource(faust.App)
    assert "on_rebalance_end" in inspect.getsource(Recovery._resume_streams)
    for name in ("_committed_offset", "_acked_index", "_acked", "_n_acked", "_waiting_for_ack"):
        assert name in inspect.getsource(Consumer.ack), name
    assert "async for tp, message in ait" in inspect.getsource(Consumer._drain_messages), "getmany is what is drained"


def test_acks_of_many_messages_are_those_of_each() -> None:
    assert "if not self.decref(n):" in inspect.getsource(ConsumerMessage.ack), "Faust's ack has changed: read it again"

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
    assert "self._fetch_min_bytes," in inspect.getsource(Fetcher._get_actions_per_node), "read at every request"
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
    assert "self._thread.seek(partition, offset)" in inspect.getsource(driver.ThreadDelegateConsumer._seek)
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


def test_a_stopping_app_waits_for_its_agents_before_they_stop() -> None:
    source = inspect.getsource(faust.App._stop_consumer)
    order = ["flow_control.suspend", "flow_control.clear", "_stop_fetcher", "_consumer_wait_empty", "tables.stop"]
    places = [source.index(name) for name in order]
    assert places == sorted(places)
    assert "await self._stop_consumer()" in inspect.getsource(faust.App.on_stop)
    service = inspect.getsource(mode.Service.stop)
    assert service.index("_stopped_set") < service.index("on_stop") < service.index("_stop_children")
    assert {"_clean_unacked_messages", "commit"} <= vars(Consumer).keys()


def test_the_store_opens_raw_rocksdict_partitions() -> None:
    assert "_db_for_partition" in vars(rocksdb.Store)
    assert "set_persisted_offset" in vars(rocksdb.Store)
    assert "_dbs" in inspect.getsource(rocksdb.Store)
    assert "raw_mode=True" in inspect.getsource(rocksdb.RocksDBOptions.as_options)


def test_what_the_gauges_read() -> None:
    assert callable(driver.Consumer.highwater)
    assert "self.rebalancing_count += 1" in inspect.getsource(faust.App.on_rebalance_start)


def test_the_intake_puts_records_where_the_conductor_would() -> None:
    source = inspect.getsource(Consumer._drain_messages)
    for name in ("_read_offset", "_add_gap", "acks_enabled_for", "wait_first", "consumer_stopped_errors"):
        assert name in source, f"{name}: Faust's loop has changed, read it again"
    delivery = inspect.getsource(ConductorCompiler.build)
    for name in ("incref", "put_nowait_enhanced", "queue.full()", "on_buffer_full", "on_buffer_drop", "flow_control"):
        assert name in delivery, name
    assert "_tp_index" in inspect.getsource(Conductor)


def test_recovery_asks_for_offsets_after_the_stores_are_open() -> None:
    source = inspect.getsource(Recovery._restart_recovery.fun)
    assert source.index("_build_offsets") < source.index("recovery_consistency_check"), "a foreign store would crash it"
    assert {"_build_offsets", "_wait"} <= vars(Recovery).keys()
    assert "if self._recovery is None" in inspect.getsource(TableManager)
    assert source.count("_build_offsets") == 2, "active partitions, then standbys: both are restored in bulk"
    for name in ("_open_for_partition", "partition_path"):
        assert name in vars(rocksdb.Store)


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
    assert "if offset and offset > 0" in inspect.getsource(AIOKafkaConsumer.seek_to_committed), "then this can go"
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
