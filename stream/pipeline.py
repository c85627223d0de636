"""Several micro-batches under way at once, so that the next decisions do not wait while a batch is being encoded.

A user is in one batch at a time, and once in it: further events of that user wait until it is done. That keeps every
user's order, and a batch is one call of each model: with a second event of one user in it, all others would wait for
a second round. Acks keep the order of intake (faust_internals.Acker).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from stream.faust_internals import Acker
from stream.processor import Processor

#: batches' worth of events that may wait for their users
_WAITING = 8
_LOOK_AGAIN_S = 0.005


class Pipeline:
    """Feeds micro-batches to the processor; `depth` of them at a time."""

    def __init__(self, processor: Processor, acker: Acker, depth: int, batch_max: int) -> None:
        self._processor, self._acker = processor, acker
        self._depth, self._batch_max = depth, batch_max
        self._busy: set[bytes] = set()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, batches: AsyncIterator[list[Any]]) -> None:
        """Until the batches end, and all of them are finished. Raises what a batch raises."""
        waiting: list[Any] = []
        coming: asyncio.Task[list[Any]] | None = None
        try:
            while True:
                if coming is None and len(self._under_way) < self._depth and len(waiting) < _WAITING * self._batch_max:
                    coming = asyncio.ensure_future(anext(batches))
                await self._progress(coming, bool(waiting))
                if coming is not None and coming.done():
                    try:
                        batch = coming.result()
                    except StopAsyncIteration:
                        break
                    coming = None
                    self._acker.expect(batch)
                    await self._processor.prepare(batch)
                    waiting += batch
                if len(self._under_way) < self._depth:
                    waiting = self._begin(waiting)
            while waiting or self._tasks():
                waiting = self._begin(waiting)
                await self._progress(None, bool(waiting))
        finally:
            for task in self._tasks(coming):
                task.cancel()

    def claim(self, keys: Iterable[bytes]) -> set[bytes]:
        """Keep users out of batches until they are released; those already worked on are not given."""
        free = set(keys) - self._busy
        self._busy |= free
        return free

    def release(self, keys: set[bytes]) -> None:
        """Give claimed users back."""
        self._busy -= keys

    def _begin(self, waiting: list[Any]) -> list[Any]:
        """Start a batch: the next event of every user who is free; returns the others."""
        ready: list[Any] = []
        held: list[Any] = []
        taken: set[bytes] = set()
        for event in waiting:
            key = event.message.key
            if key in self._busy or key in taken or len(ready) == self._batch_max:
                held.append(event)
            else:
                ready.append(event)
                taken.add(key)
        # a few free users do not make a batch while most events wait for a batch to end: it would be one more for all
        if not ready or (self._under_way and len(ready) < min(self._batch_max, len(waiting)) / 2):
            return waiting
        users = self.claim(event.message.key for event in ready)
        self._under_way.add(asyncio.ensure_future(self._process(ready, users)))
        return held

    async def _process(self, events: list[Any], users: set[bytes]) -> None:
        try:
            written = await self._processor.process(events)
        finally:
            self.release(users)
        await self._acker.put(written)

    async def _progress(self, coming: asyncio.Task[Any] | None, waiting: bool) -> None:
        """Until something has ended; raises what a batch raised."""
        tasks = self._tasks(coming)
        if tasks:
            # users whom the sweep had claimed come back without a task of ours ending
            timeout = _LOOK_AGAIN_S if waiting else None
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_LOOK_AGAIN_S)
        for task in [t for t in self._under_way if t.done()]:
            self._under_way.discard(task)
            task.result()

    def _tasks(self, coming: asyncio.Task[Any] | None = None) -> set[asyncio.Task[Any]]:
        return self._under_way | ({coming} if coming else set())
