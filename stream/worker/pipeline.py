"""Micro-batches on their way: while one is being decided, others are encoded and stored.

What an event waits for is its decision, so decisions come first: a batch begins when the one before has published its
decisions, with all that has come by then. Encoding and storing its users goes on behind that, several batches at once.

A user is in one batch at a time, and once in it: further events of that user wait until it is done. That keeps every
user's order, and a batch is one call of each model: with a second event of one user in it, all others would wait for
a second round. Acks keep the order of intake (stream.worker.acker).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from stream.worker.acker import Acker
from stream.worker.processor import Processor

#: batches' worth of events that may wait for their users
_WAITING = 4


class Source(Protocol):
    """Where events come from: faust_internals.Arrivals."""

    async def wait(self) -> bool:
        """Until there are events; False when there will be none."""
        ...

    def take(self, most: int) -> list[Any]:
        """What there is."""
        ...


class Pipeline:
    """Feeds micro-batches to the processor; at most `depth` full ones are under way."""

    def __init__(self, processor: Processor, acker: Acker, depth: int, batch_max: int) -> None:
        self._processor, self._acker = processor, acker
        self._depth, self._batch_max = depth, batch_max
        self._busy: set[bytes] = set()
        self._under_way: dict[asyncio.Task[None], int] = {}  # events of each
        self._deciding = False
        self._news = asyncio.Event()  # something has ended that others may have waited for

    async def run(self, source: Source) -> None:
        """Until the source ends, and all batches are finished. Raises what a batch raises."""
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
                    await self._processor.prepare(batch)
                    waiting += batch
                waiting = self._begin(waiting)
        finally:
            for task in (*self._under_way, arrival):
                if task is not None:
                    task.cancel()

    def claim(self, keys: Iterable[bytes]) -> set[bytes]:
        """Keep users out of batches until they are released; those already worked on are not given."""
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
            # without a key it is nobody's: a dead letter, and no other need wait for it
            waits = key is not None and (key in self._busy or key in taken)
            if waits or len(ready) == self._batch_max:
                held.append(event)
            else:
                ready.append(event)
                taken.add(key)
        # a few free users do not make a batch while most events wait for a batch to end: it would be one more for all
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
            written = await self._processor.process(events, on_decided)
        finally:
            on_decided()  # where there was nothing to decide
            self.release(users)
        await self._acker.put(written)

    def _finished(self) -> None:
        """Forget batches that have ended; raises what one of them raised."""
        for task in [t for t in self._under_way if t.done()]:
            del self._under_way[task]
            task.result()

    def _tell(self, _: object) -> None:
        self._news.set()
