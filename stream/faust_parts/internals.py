"""The private parts of Faust and aiokafka that the worker touches; those of the consumer: stream.faust_parts.consumer.

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
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from stream.faust_parts.consumer import state_of

logger = logging.getLogger(__name__)

_NAP_S = 0.05
DRAIN_S = 5.0  # longest wait for micro-batches under way when the worker stops


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


class Arrivals:
    """Events straight from the agent's channel; nothing is acked here."""

    def __init__(self, stream: Any, within_s: float, enough: int) -> None:
        """`within_s`: for how long others may join a first event, unless `enough` are there."""
        self._stream, self._within_s, self._enough = stream, within_s, enough
        self._queue = stream.channel.queue
        self._first: Any = None
        self._ended = False

    async def wait(self) -> bool:
        """Wait for a first event, and for others to join it; False when the stream has ended.

        Events that are not acked when the stream ends are redelivered.
        """
        await self._stream.maybe_start()
        if self._ended or self._stream.should_stop:
            return False
        try:
            self._first = await self._queue.get()
        except StopAsyncIteration:  # thrown into the channel on stop
            return False
        # naps instead of a get with a timeout: cancelling a get can lose the event that arrives at that moment
        end_s = time.monotonic() + self._within_s
        await asyncio.sleep(min(self._within_s, _NAP_S))
        while (left_s := end_s - time.monotonic()) > 0 and self._queue.qsize() < self._enough:  # noqa: ASYNC110 - a queue tells no length
            await asyncio.sleep(min(left_s, _NAP_S))
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
    """Records in Kafka that this worker has not taken in, by partition; the end is the one that the last fetch told.

    The end of what may be read: records of a transaction that its sender has not ended lie beyond it.
    """
    out = {}
    for tp in assigned(app, topic):
        state, consumer = state_of(app.consumer, tp), app.consumer
        if state is None or not state.has_valid_position:
            continue
        end = state.highwater if state.lso is None or state.lso < 0 else state.lso
        if end is not None:
            handed = consumer._handed.get(tp)
            resting = handed is None or consumer._settled.get(tp, 0) > handed
            out[tp.partition] = max(0, end - (state.position if resting else handed + 1))
    return out


async def settled_offset(app: Any, tp: TP) -> int:
    """Offset up to which everything of a partition is decided and stored.

    By what this worker has acked, or by what the group has committed. Not by lag: its end is the one that the last
    fetch told, which may be older than a record that somebody else has just seen.
    """
    own: int | None = app.consumer._settled.get(tp)
    return (await committed_offset(app, tp) or 0) if own is None else own


async def committed_offset(app: Any, tp: TP) -> int | None:
    """Offset that the group has committed, None where it has committed none."""
    thread = app.consumer._thread
    offset: int | None = await thread.call_thread(thread._ensure_consumer().committed, tp)
    return offset
