"""Every private part of Faust and aiokafka that the worker touches stands here, and nowhere else.

Written for faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0 (pinned exactly);
tests/stream/faust_parts/test_internals.py fails when one of the attributes used here moves.

Why private parts are touched at all: Faust's stream loop acks an event as soon as the agent asks for the next one, so a
micro-batch could be committed before its decisions and states are durable. Faust creates its consumer with a hard-coded
1.5 s long poll. And its intake makes two tasks for every record, which costs as much as all that this project does with
the record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import faust
from faust.events import Event
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

logger = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 10  # longest long poll
FETCH_GATHERS_S = 0.005  # under load a fetch waits for about as many bytes as come in within this time
_RATE_OVER_S = 0.25  # the rate of incoming bytes is measured over at least this time
DRAIN_S = 5.0  # longest wait for micro-batches under way when the worker stops
_YIELD_EVERY = 200  # records taken in before other tasks get a turn


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust times its own intake, which this worker replaces, and would report a healthy one as stuck."""


class _FetchSize:
    """How many bytes a fetch waits for.

    A fetch costs broker and worker the same however little it brings. With fetches answered at the first byte, as by
    default, they take half of a core at 3,000 records a second. Where records are few, the minimum falls to one byte,
    and a single record answers the fetch.
    """

    def __init__(self) -> None:
        self._bytes, self._since_s = 0, time.monotonic()

    def set(self, fetcher: Any, received: int) -> None:
        """Set the fetcher's minimum from the rate so far. `received`: bytes since the last call."""
        self._bytes += received
        now_s = time.monotonic()
        if now_s - self._since_s >= _RATE_OVER_S:
            fetcher._fetch_min_bytes = max(1, int(self._bytes / (now_s - self._since_s) * FETCH_GATHERS_S))
            self._bytes, self._since_s = 0, now_s


class _Consumer(driver.Consumer):
    """Faust's consumer, without its hole between "partitions resumed" and "flow resumed".

    After recovery Faust resumes the stream's partitions, seeks them to the committed offsets, and then resumes the
    flow, which clears the agents' queues. Records delivered before the flow is resumed are cleared, and when they are
    fetched again they count as read, so they are lost (measured: on one in three starts over a backlog). Therefore no
    record of a stream is delivered while a rebalance is under way, recovery included. After the rebalance every
    partition of which a record was held back goes back to the committed offset. It does not go back to the record that
    was held back: after two rebalances in a row that record may be from the first one and lie further on, and the
    records before it would be committed unread (the chaos run lost 247 records so).

    Records of a fetch that began before the end of a rebalance are held back too, whenever they arrive: the fetch may
    have taken them out of the buffers before the partitions were put back to the committed offset. They then lie beyond
    the records that were taken in before the rebalance and dropped with it (the chaos run lost 4 records so).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._held_back: set[TP] = set()
        self._pressure: dict[TP, tuple[Callable[[], None], Callable[[], None]]] = {}

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Any:
        """Put partitions back to their committed offsets, and partitions without one to their beginning.

        aiokafka does not move a partition that has no committed offset, or offset 0. Records that a new group took in
        before its first commit, and that a rebalance dropped, would then not come again.
        """
        committed = await super().seek_to_committed()
        for tp in (TP(*tp) for tp, offset in committed.items() if not offset):
            if not self._is_changelog_tp(tp):
                await self.seek(tp, (await self.earliest_offsets(tp))[tp])
        return committed

    async def _seek(self, partition: TP, offset: int) -> None:
        """Seek in the consumer's thread.

        Faust seeks in the caller's thread, which may drop the records that a fetch in the consumer's thread is about to
        hand out: a KeyError, which ended a worker at its start.
        """
        thread = self._thread
        await thread.call_thread(thread._ensure_consumer().seek, partition, offset)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - Faust's signature
        if self._held_back and not self.app.rebalancing:
            held, self._held_back = self._held_back & self.assignment(), set()
            for tp in held:
                committed = self._read_offset[tp]  # set by recovery, and nothing was delivered since
                await self.seek(tp, (await self.earliest_offsets(tp))[tp] if committed is None else committed)
        generation, unsettled = self.app.consumer_generation_id, self.app.rebalancing
        async for tp, message in super().getmany(timeout):
            if tp in self._held_back:
                continue
            unsettled = unsettled or self.app.rebalancing or generation != self.app.consumer_generation_id
            if unsettled and not self._is_changelog_tp(tp):
                self._held_back.add(TP(tp.topic, tp.partition))
            else:
                yield tp, message

    async def _drain_messages(self, fetcher: Any) -> None:
        """Faust's loop, except that a record goes straight into its agent's queue when the queue has room."""
        read_offset, since_yield, fetch_size = self._read_offset, 0, _FetchSize()
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)
                received = 0
                async for tp, message in self.getmany(timeout=1.0):
                    received += len(message.value or b"")
                    since_yield += 1
                    if since_yield > _YIELD_EVERY:
                        await asyncio.sleep(0)
                        since_yield = 0
                    offset, read = message.offset, read_offset[tp]
                    if read is not None and offset < read:
                        continue
                    if read and offset - read > 1 and self.app.topics.acks_enabled_for(message.topic):
                        await self._add_gap(tp, read + 1, offset)
                    if not self._deliver(message):
                        await self.wait_first(self.callback(message), self.suspend_flow.wait())
                    read_offset[tp] = offset
                fetch_size.set(self._thread._consumer._fetcher, received)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    def ack_all(self, messages: list[Any]) -> None:
        """Ack as `event.ack` does, with one lock and one wake-up for all: a quarter of the cost of acking each."""
        enabled = {topic: self.app.topics.acks_enabled_for(topic) for topic in {m.topic for m in messages}}
        with ack_lock:
            for message in messages:
                if message.acked or message.decref():
                    continue
                message.acked = True
                tp, offset = message.tp, message.offset
                committed = self._committed_offset[tp]
                if not enabled[message.topic] or (committed is not None and offset < committed):
                    continue
                index = self._acked_index[tp]
                if offset not in index:
                    self._unacked_messages.discard(message)
                    index.add(offset)
                    self._acked[tp].append(offset)
                    self._n_acked += 1
            notify(self._waiting_for_ack)

    def _deliver(self, message: Any) -> bool:
        """Queue a record for the one agent that reads its topic, as the conductor would; False: it has to wait."""
        tp = TP(message.topic, message.partition)  # `getmany` gives aiokafka's class, which Faust's sets refuse
        channels = self.app.topics._tp_index.get(tp)
        if not channels or len(channels) > 1 or not self.app.flow_control.is_active():
            return False
        (channel,) = channels
        if channel.queue.full() or self._is_changelog_tp(tp):
            return False
        if tp not in self._pressure:
            self._pressure[tp] = (partial(self.on_buffer_full, tp), partial(self.on_buffer_drop, tp))
        high, drop = self._pressure[tp]
        message.incref(1)
        event = Event(self.app, message.key, message.value, message.headers, message)  # keys and values are raw
        channel.queue.put_nowait_enhanced(event, on_pressure_high=high, on_pressure_drop=drop)
        return True


class DrainingApp(faust.App):
    """Faust's application, except that it finishes the events it has taken in before it stops.

    Faust's own setting for this (`stream_wait_empty`) waits without limit, and in every rebalance too.
    """

    #: set when the agent has failed, which finishes nothing any more
    failed = False

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Called when no more records are taken in and the agents still run."""
        if not self.should_stop:
            return  # a rebalance: events that are not acked are redelivered, and answered from the state
        end_s = time.monotonic() + DRAIN_S
        while consumer._unacked_messages and not self.failed and time.monotonic() < end_s:
            await asyncio.sleep(0.02)
            consumer._clean_unacked_messages()
        left = len(consumer._unacked_messages)
        await consumer.commit()
        log = logger.warning if left else logger.info
        log("stopping: what was taken in is finished and committed, but for %d events, which are redelivered", left)


class LowLatencyTransport(driver.Transport):
    """Faust's aiokafka transport with a short long poll."""

    Consumer = _Consumer


class Arrivals:
    """Events straight from the agent's channel; nothing is acked here."""

    def __init__(self, stream: Any, within_s: float) -> None:
        self._stream, self._within_s = stream, within_s
        self._queue = stream.channel.queue
        self._first: Any = None
        self._ended = False

    async def wait(self) -> bool:
        """Wait for a first event, and `within_s` more for others to join it; False when the stream has ended.

        Events that are not acked when the stream ends are redelivered.
        """
        await self._stream.maybe_start()
        if self._ended or self._stream.should_stop:
            return False
        try:
            self._first = await self._queue.get()
        except StopAsyncIteration:  # thrown into the channel on stop
            return False
        # a nap instead of a get with a timeout: cancelling a get can lose the event that arrives at that moment
        await asyncio.sleep(self._within_s)
        return True

    def take(self, most: int) -> list[Any]:
        """At most `most` of the events that have arrived; to be called after `wait` has returned True.

        Events of an earlier generation (fetched before a rebalance) are dropped: the partition's new owner gets them.
        """
        app, batch = self._stream.app, []
        unacked = app.consumer._unacked_messages
        try:
            while self._first is not None:
                event, self._first = self._first, None
                message = event.message
                if app.flow_control.is_active() and message.generation_id == app.consumer_generation_id:
                    if not message.tracked:
                        message.tracked = True
                        unacked.add(message)
                    batch.append(event)
                if len(batch) < most and not self._queue.empty():
                    self._first = self._queue.get_nowait()
        except StopAsyncIteration:
            self._ended = True
        return batch


def partition_store(table: Any, partition: int) -> Any:
    """The open RocksDB (rocksdict.Rdict, raw mode) of one partition of a table."""
    return table.data._db_for_partition(partition)


def open_stores(table: Any) -> list[Any]:
    """The RocksDBs of a table that are open now, standbys included."""
    return list(table.data._dbs.values())


def assigned(app: Any, topic: str) -> set[TP]:
    """Partitions of a topic that this worker holds; empty before the consumer runs."""
    try:
        return {tp for tp in app.consumer.assignment() if tp.topic == topic}
    except ConsumerNotStarted:
        return set()


def standbys(app: Any, table: Any) -> int:
    """Partitions of a table that this worker keeps a copy of for another."""
    return sum(tp.topic == table.changelog_topic_name for tp in app.assignor.assigned_standbys())


def lags(app: Any, topic: str) -> dict[int, int]:
    """Records in Kafka that this worker has not taken in, by partition; the end is the one that the last fetch told."""
    out = {}
    for tp in assigned(app, topic):
        try:
            end = app.consumer.highwater(tp)
        except (AssertionError, AttributeError):  # the consumer's thread has given the partition away meanwhile
            continue
        if end is not None:
            read = app.consumer._read_offset[tp]
            out[tp.partition] = max(0, end - (0 if read is None else read + 1))
    return out
