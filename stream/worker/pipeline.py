"""The commit protocol of micro-batches, and their order: while one is decided, others are encoded and stored.

A micro-batch goes through five steps, on whose order the guarantees rest:

  1. decode; a record that cannot be scored goes to the dead-letter topic (stream.worker.processor);
  2. decide (panther_core.decide.engine), and publish each decision as soon as it is made;
  3. wait until decisions, alerts and dead letters are durable in Kafka;
  4. write states to RocksDB, one WriteBatch a partition, and send them to the changelog (stream.worker.state_store);
  5. ack in order of intake once the changelog is durable (stream.worker.acker).

A crash before step 5 means redelivery. Events whose state was stored are skipped, since their decisions are durable.
Of the others, those that were published get that decision again (stream.worker.published), and the rest is decided
from the same state as before.

An event waits for its decision, so decisions come first: a batch begins as soon as the one before has published its
decisions, with all events that have come by then. Encoding and storing goes on behind that, for several batches at
once.

A user is in one batch at a time, and once in it; further events of that user wait until the batch is done. That keeps
every user's order, and makes a batch one call of each model: with a second event of one user in it, all others would
wait for a second round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from stream.worker.acker import Acker
from stream.worker.beside import naming_records
from stream.worker.processor import Processor

#: batches' worth of events that may wait for their users
_WAITING = 4


class Source(Protocol):
    """Where events come from: faust_internals.Arrivals."""

    async def wait(self) -> bool:
        """Wait until there are events; False when there will be none any more."""
        ...

    def take(self, most: int) -> list[Any]:
        """Up to `most` of the events that are there."""
        ...


class Pipeline:
    """Feeds micro-batches to the processor; at most `depth` full ones are under way."""

    def __init__(self, processor: Processor, acker: Acker, depth: int, batch_max: int) -> None:
        self._processor, self._acker = processor, acker
        self._depth, self._batch_max = depth, batch_max
        self._busy: set[bytes] = set()
        self._under_way: dict[asyncio.Task[None], int] = {}  # events of each
        self._deciding = False
        self._news = asyncio.Event()  # set when a batch or an arrival has ended, for which others may wait

    async def run(self, source: Source) -> None:
        """Work until the source has ended and all batches are finished. Raises what a batch raises."""
        waiting: list[Any] = []
        arrival: asyncio.Task[bool] | None = None
        ended = False
        try:
            while not ended or waiting or self._under_way:
                if arrival is None and not ended and len(waiting) < _WAITING * self._batch_max:
                    arrival = asyncio.ensure_future(source.wait())
                    arrival.add_done_callback(self._tell)
                await self._news.wait()
                self._news.clear()
                self._finished()
                if self._deciding or sum(self._under_way.values()) >= self._depth * self._batch_max:
                    continue
                if arrival is not None and arrival.done():
                    ended, arrival = not arrival.result(), None
                    batch = [] if ended else source.take(self._batch_max)
                    self._acker.expect(batch)
                    with naming_records(batch):
                        await self._processor.prepare(batch)
                    waiting += batch
                waiting = self._begin(waiting)
        finally:
            for task in (*self._under_way, arrival):
                if task is not None:
                    task.cancel()

    def claim(self, keys: Iterable[bytes]) -> set[bytes]:
        """Keep users out of batches until they are released; returns those that no batch holds at this moment."""
        free = set(keys) - self._busy
        self._busy |= free
        return free

    def release(self, keys: set[bytes]) -> None:
        """Give claimed users back."""
        self._busy -= keys
        self._news.set()

    def _begin(self, waiting: list[Any]) -> list[Any]:
        """Start a batch: the next event of every user who is free; returns the others."""
        ready: list[Any] = []
        held: list[Any] = []
        taken: set[bytes] = set()
        for event in waiting:
            key = event.message.key
            # A record without a key belongs to no user. It becomes a dead letter, so it can join any batch.
            waits = key is not None and (key in self._busy or key in taken)
            if waits or len(ready) == self._batch_max:
                held.append(event)
            else:
                ready.append(event)
                taken.add(key)
        # While a batch is running, do not start one for less than half of the waiting events: a small extra batch
        # would delay everybody else.
        if not ready or (self._under_way and len(ready) < min(self._batch_max, len(waiting)) / 2):
            return waiting
        users = self.claim(event.message.key for event in ready)
        self._deciding = True
        task = asyncio.ensure_future(self._process(ready, users))
        task.add_done_callback(self._tell)
        self._under_way[task] = len(ready)
        return held

    async def _process(self, events: list[Any], users: set[bytes]) -> None:
        decided = False

        def on_decided() -> None:
            nonlocal decided
            if not decided:
                decided, self._deciding = True, False
                self._news.set()

        try:
            with naming_records(events):
                batch = await self._processor.process(events, on_decided)
        finally:
            on_decided()  # a batch of dead letters alone decides nothing
            self.release(users)
        await self._acker.put(batch)

    def _finished(self) -> None:
        """Forget batches that have ended; raises what one of them raised."""
        for task in [t for t in self._under_way if t.done()]:
            del self._under_way[task]
            task.result()

    def _tell(self, _: object) -> None:
        self._news.set()
