"""What is finished, and how far: acks in order of intake, and the offsets up to which the stores hold the changelog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP

from stream.ops import metrics

logger = logging.getLogger(__name__)

_BEYOND = 100_000  # changelog records under way at most


@dataclass
class Written:
    """Events that are finished, their states in RocksDB and the changelog records on their way.

    Of a generation that is over, nothing was written, and nothing will be acked.
    """

    generation: int
    events: list[Any]
    sends: dict[int, asyncio.Future[list[range]]] = field(default_factory=dict)  # by partition: changelog offsets
    made_s: float = field(default_factory=time.monotonic)


class _Contiguous:
    """The last offset of an unbroken run, whose offsets come in any order."""

    def __init__(self, last: int) -> None:
        self.last = last
        self._beyond: set[int] = set()

    def add(self, offsets: range) -> None:
        """Some more."""
        if offsets.start == self.last + 1:
            self.last = offsets.stop - 1
        else:
            self._beyond.update(offsets)
        while self.last + 1 in self._beyond:
            self.last += 1
            self._beyond.discard(self.last)
        if len(self._beyond) > _BEYOND:  # somebody else's records stand between: it does not go on
            self._beyond.clear()


class Acker:
    """Acks events in the order they were taken in, each only after its state is durable in the changelog.

    Strictly first in, first out, though micro-batches may be finished in another order: Faust's offset bookkeeping
    skips gaps, so an ack out of order loses data.
    """

    def __init__(self, app: Any, table: Any, depth: int = 64) -> None:
        self._app, self._table = app, table
        self._queue: asyncio.Queue[Written] = asyncio.Queue(depth)
        self._order: deque[Any] = deque()
        self._done: set[int] = set()  # ids of events, which `_order` keeps alive
        self._generation: int | None = None
        self._own: dict[int, _Contiguous] = {}  # changelog records of this generation, by partition

    def expect(self, events: list[Any]) -> None:
        """Note events as they are taken in, before anything is done with them."""
        self._order.extend(events)

    @property
    def unfinished(self) -> int:
        """Events taken in and not acked."""
        return len(self._order)

    async def put(self, written: Written) -> None:
        """Queue what is written; waits when `depth` batches are on their way (back-pressure)."""
        await self._queue.put(written)

    async def run(self) -> None:
        """Run for the life of the agent."""
        while True:
            written = await self._queue.get()
            try:
                await asyncio.gather(*written.sends.values())
                metrics.STEP_SECONDS.labels("changelog").observe(time.monotonic() - written.made_s)
            except Exception as error:  # changelog not stored: never commit past it
                logger.exception("changelog records could not be stored; stopping the worker")
                await self._app.crash(error)
                return
            if written.generation == self._app.consumer_generation_id:
                self._persist(written)
            self._done.update(map(id, written.events))
            self._ack_finished()
            self._queue.task_done()

    async def drained(self) -> None:
        """Until everything that was put is durable and acked."""
        await self._queue.join()

    def _persist(self, written: Written) -> None:
        """Note how far the stores go: only as far as this worker has written every record of the changelog itself.

        What another one has written in between, while this one was suspended and knew nothing of it, is not in here.
        """
        if written.generation != self._generation:
            self._generation, self._own = written.generation, {}
        for partition, sent in written.sends.items():
            tp = TP(self._table.changelog_topic_name, partition)
            if partition not in self._own:
                before = self._table.data.persisted_offset(tp)
                self._own[partition] = _Contiguous(-1 if before is None else before)
            own = self._own[partition]
            for offsets in sent.result():
                own.add(offsets)
            if own.last >= 0:
                self._table.data.set_persisted_offset(tp, own.last)

    def _ack_finished(self) -> None:
        generation, finished = self._app.consumer_generation_id, []
        while self._order and id(self._order[0]) in self._done:
            event = self._order.popleft()
            self._done.discard(id(event))
            if event.message.generation_id == generation:  # else rebalanced: it is redelivered to its new owner
                finished.append(event.message)
        if finished:
            self._app.consumer.ack_all(finished)
