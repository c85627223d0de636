"""Step 5 of the commit protocol (stream.worker.pipeline): acks in order of intake, once the changelog is durable.

It also notes the offsets up to which the stores hold the changelog, from which recovery goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from faust.types import TP

from stream.ops import metrics
from stream.worker.state_store import StoredBatch

logger = logging.getLogger(__name__)

_AHEAD = 100_000  # changelog records under way at most


class _UnbrokenRun:
    """The last offset of an unbroken run of offsets, which are added in any order."""

    def __init__(self, last: int) -> None:
        self.last = last
        self._ahead: set[int] = set()

    def add(self, offsets: range) -> None:
        """Add offsets that were written."""
        if offsets.start == self.last + 1:
            self.last = offsets.stop - 1
        else:
            self._ahead.update(offsets)
        while self.last + 1 in self._ahead:
            self.last += 1
            self._ahead.discard(self.last)
        # Another producer's records fill the gap: the run cannot grow further, so forget what lies beyond the gap
        # (recovery will read it again).
        if len(self._ahead) > _AHEAD:
            self._ahead.clear()


class Acker:
    """Acks events in the order they were taken in, each only after its state is durable in the changelog.

    Strictly first in, first out in each partition, although micro-batches may finish in another order: a partition is
    committed up to the last ack, so an ack out of order would lose data.
    """

    def __init__(self, app: Any, table: Any, depth: int = 64) -> None:
        self._app, self._table = app, table
        self._queue: asyncio.Queue[StoredBatch] = asyncio.Queue(depth)
        self._order: dict[int, deque[Any]] = {}  # by partition
        self._done: set[int] = set()  # ids of events, which `_order` keeps alive
        self.acked_s = time.monotonic()  # when a micro-batch was last finished
        self._generation: int | None = None
        self._own: dict[int, _UnbrokenRun] = {}  # changelog records of this generation, by partition

    def expect(self, events: list[Any]) -> None:
        """Note events as they are taken in, before anything is done with them."""
        for event in events:
            partition = event.message.partition
            if partition not in self._order:
                self._order[partition] = deque()
            self._order[partition].append(event)

    @property
    def unfinished(self) -> int:
        """Events taken in and not acked."""
        return sum(map(len, self._order.values()))

    async def put(self, batch: StoredBatch) -> None:
        """Queue a stored batch; waits when `depth` batches are on their way (back-pressure)."""
        await self._queue.put(batch)

    async def run(self) -> None:
        """Run for the life of the agent."""
        while True:
            batch = await self._queue.get()
            try:
                await asyncio.gather(*batch.sends.values())
                metrics.STEP_SECONDS.labels("changelog").observe(time.monotonic() - batch.made_s)
            except Exception as error:  # the changelog lacks these states: never commit past them
                logger.exception("changelog records could not be stored; stopping the worker")
                await self._app.crash(error)
                return
            if batch.generation == self._app.consumer_generation_id:
                self._persist(batch)
            self._done.update(map(id, batch.events))
            self.acked_s = time.monotonic()
            for partition in {event.message.partition for event in batch.events}:
                self._ack_finished(partition)
            self._queue.task_done()

    async def drained(self) -> None:
        """Wait until every batch that was put is durable and acked."""
        await self._queue.join()

    def _persist(self, batch: StoredBatch) -> None:
        """Note up to which changelog offset the stores hold every record.

        Records that another worker wrote while this process was suspended are in the changelog but not in this store,
        so the persisted offset must stop before them.
        """
        if batch.generation != self._generation:
            self._generation, self._own = batch.generation, {}
        for partition, sent in batch.sends.items():
            tp = TP(self._table.changelog_topic_name, partition)
            if partition not in self._own:
                before = self._table.data.persisted_offset(tp)
                self._own[partition] = _UnbrokenRun(-1 if before is None else before)
            own = self._own[partition]
            for offsets in sent.result():
                own.add(offsets)
            if own.last >= 0:
                self._table.data.set_persisted_offset(tp, own.last)

    def _ack_finished(self, partition: int) -> None:
        generation, finished = self._app.consumer_generation_id, []
        order = self._order[partition]
        while order and id(order[0]) in self._done:
            event = order.popleft()
            self._done.discard(id(event))
            if event.message.generation_id == generation:  # else its partition moved: the new owner gets it again
                finished.append(event.message)
        if finished:
            self._app.consumer.ack_all(finished)
