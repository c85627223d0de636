"""Faust's consumer, with its holes closed: what is taken in, from where on, and up to where it is committed.

One of the two files that touch private parts of Faust's and aiokafka's consumers; the other one, and the versions that
both are written for: stream.faust_parts.internals.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from faust.events import Event
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

from panther_core.base.errors import PantherError

FETCH_MAX_WAIT_MS = 10  # longest long poll
FETCH_GATHERS_S = 0.005  # under load a fetch waits for about as many bytes as come in within this time
_RATE_OVER_S = 0.25  # the rate of incoming bytes is measured over at least this time
_YIELD_EVERY = 200  # records taken in before other tasks get a turn


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        consumer._isolation_level = "read_committed"  # what a sender took back was never a transaction
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


class OffsetsBeganAnew(PantherError):
    """A partition's records began again at an earlier offset while it was read."""

    def __init__(self, tp: Any, offset: int, before: int) -> None:
        super().__init__(
            f"{tp.topic}:{tp.partition}: expected a record after offset {before}, got offset {offset}: the topic was "
            "made anew, or has lost records, while the worker read it; started again, the worker compares the log "
            "with its states"
        )


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
        self._handed: dict[TP, int] = {}  # newest offset that was taken in, since the partition was put to a position
        self._settled: dict[TP, int] = {}  # offset up to which everything is done: what is committed
        self._resting: dict[TP, int] = {}  # position of partitions that brought no record lately
        #: generation whose partitions are known to be the logs that they were: before, a position says nothing
        self.open_generation: int | None = None
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

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the offsets of partitions that another worker gets."""
        for tp in revoked:
            self._handed.pop(tp, None)
            self._settled.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Put partitions back to their committed offsets, and forget what was taken in beyond them."""
        self._handed.clear()
        self._settled.clear()
        await super().perform_seek()

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
                received, generation = 0, self.app.consumer_generation_id
                async for tp, message in self.getmany(timeout=1.0):
                    received += len(message.value or b"")
                    since_yield += 1
                    if since_yield > _YIELD_EVERY:
                        await asyncio.sleep(0)
                        since_yield = 0
                    offset, read = message.offset, read_offset[tp]
                    if read is not None and offset < read:
                        if tp in self._handed:
                            raise OffsetsBeganAnew(tp, offset, read)
                        continue
                    if not self._deliver(message):
                        await self.wait_first(self.callback(message), self.suspend_flow.wait())
                    read_offset[tp] = offset
                    if not self._is_changelog_tp(tp):
                        self._handed[TP(*tp)] = offset
                        self._resting.pop(TP(*tp), None)
                fetch_size.set(self._thread._consumer._fetcher, received)
                opened = generation == self.app.consumer_generation_id == self.open_generation
                if opened and self.flow_active and not self.app.rebalancing:
                    self._settle_resting()
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
                if enabled[message.topic]:
                    self._unacked_messages.discard(message)
                    self._settled[message.tp] = max(message.offset + 1, self._settled.get(message.tp, 0))
                    self._n_acked += 1
            notify(self._waiting_for_ack)

    def _settle_resting(self) -> None:
        """Settle what lies between the last record of a partition and its position, once no more records come.

        There are offsets without a record: markers of transactions, records that were taken back or deleted. Faust
        keeps a list of each such offset that a later record shows, which takes gigabytes after a deletion, and does not
        see the ones at the end at all, which look like lag for ever.
        """
        for tp in self.assignment():
            if self._is_changelog_tp(tp) or tp in self._held_back:
                continue
            position = self.position_of(tp)
            if position is None or self._handed.get(tp, -1) >= self._settled.get(tp, 0):
                continue  # what was taken in is not done
            if self._resting.get(tp) == position > self._settled.get(tp, self._committed_offset[tp] or 0):
                self._settled[tp] = position
            self._resting[tp] = position

    def position_of(self, tp: TP) -> int | None:
        """Offset of the record that is fetched next, None before there is one."""
        state = state_of(self, tp)
        return state.position if state is not None and state.has_valid_position else None

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._settled) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._settled.get(tp)

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


class LowLatencyTransport(driver.Transport):
    """Faust's aiokafka transport with a short long poll."""

    Consumer = _Consumer


def state_of(consumer: Any, tp: TP) -> Any:
    """aiokafka's state of a partition: its position and its ends; None where the partition is not assigned."""
    subscription = consumer._thread._consumer._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    return None if assignment is None or tp not in assignment.tps else assignment.state_value(tp)
