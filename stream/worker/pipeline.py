"""The commit protocol of micro-batches, and their order: while one is decided, others are encoded and stored.

A micro-batch goes through five steps, on whose order the guarantees rest:

  1. decode; a record that cannot be scored goes to the dead-letter topic (stream.worker.processor);
  2. decide (panther_core.decide.engine), and publish each decision as soon as it is made;
  3. wait until decisions, alerts and dead letters are durable in Kafka;
  4. write states to RocksDB, one WriteBatch a partition, and send them to the changelog (stream.worker.state_store);
  5. ack in order of intake once the changelog is durable (stream.worker.acker).

A crash before step 5 means redelivery. Events whose state was stored are skipped, since their decisions are durable.
Of the others, those that were published get that decision again (stream.worker.decided), and the rest is decided
from the same state as before.

An event waits for its decision, so decisions come first: a batch begins as soon as the one before has published its
decisions, with all events that have come by then. Encoding and storing goes on behind that, for several batches at
once.

A user is in one batch at a time, and once in it; further events of that user wait until the batch is done. That keeps
every user's order, and makes a batch one call of each model: with a second event of one user in it, all others would
wait for a second round.

A user who sends more than one event a batch would leave more and more events waiting. Such events take no room from
those of others, and when many wait, a batch takes several of them: they are decided together, on model outputs that
have not seen the newest of them (`degraded` cached). Beyond OVERLOAD the user's further events become dead letters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from stream.worker.acker import Acker
from stream.worker.beside import naming_records
from stream.worker.processor import Processor

#: batches' worth of events that may wait for their users, of each user at most _COUNTED
_WAITING, _COUNTED = 4, 8
#: events of one user that wait before a batch takes several of them, at most _MOST: each costs the others half of a ms
HOT, _MOST = 256, 4
#: events of one user that may wait (some 30 MB); what comes beyond them becomes a dead letter
OVERLOAD = 20_000


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
        self.waiting = Waiting()
        self._under_way: dict[asyncio.Task[None], int] = {}  # events of each
        self._deciding = False
        self._news = asyncio.Event()  # set when a batch or an arrival has ended, for which others may wait

    async def run(self, source: Source) -> None:
        """Work until the source has ended and all batches are finished. Raises what a batch raises."""
        waiting = self.waiting
        arrival: asyncio.Task[bool] | None = None
        ended = False
        try:
            while not ended or waiting.events or self._under_way:
                if arrival is None and not ended and waiting.counted < _WAITING * self._batch_max:
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
                        await self._processor.prepare()
                    waiting.add(batch)
                self._begin()
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

    def _begin(self) -> None:
        """Start a batch with the next event of every user who is free."""
        # While a batch is running, do not start one for less than half of the users who wait: a small extra batch
        # would delay everybody else.
        free = self.waiting.free(self._busy)
        if not free or (self._under_way and len(free) < min(self._batch_max, self.waiting.users) / 2):
            return
        ready = self.waiting.take(free, self._batch_max)
        refused, self.waiting.refused = self.waiting.refused, []
        users = self.claim(event.message.key for event in ready)
        self._deciding = True
        task = asyncio.ensure_future(self._process(ready, users, refused))
        task.add_done_callback(self._tell)
        self._under_way[task] = len(ready)

    async def _process(self, events: list[Any], users: set[bytes], refused: list[Any]) -> None:
        decided = False

        def on_decided() -> None:
            nonlocal decided
            if not decided:
                decided, self._deciding = True, False
                self._news.set()

        try:
            with naming_records(events):
                batch = await self._processor.process(events, on_decided, refused)
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


class Waiting:
    """Events taken in and in no batch yet, by the key of their user, in the order of each user's first one."""

    def __init__(self) -> None:
        self._of: dict[bytes | None, deque[Any]] = {}
        self.events = 0
        self.counted = 0  # of each user's at most _COUNTED
        self.refused: list[Any] = []  # events of users of whom OVERLOAD wait

    @property
    def users(self) -> int:
        """Users who have an event that waits."""
        return len(self._of)

    def hot(self) -> int:
        """Users of whom more than HOT events wait."""
        return sum(len(own) > HOT for own in self._of.values()) if self.events > HOT else 0

    def add(self, events: Iterable[Any]) -> None:
        """Take in events, in their order."""
        for event in events:
            own = self._of.get(event.message.key)
            if own is None:
                own = self._of[event.message.key] = deque()
            if len(own) >= OVERLOAD and event.message.key is not None:
                self.refused.append(event)
                continue
            own.append(event)
            self.events += 1
            self.counted += len(own) <= _COUNTED

    def free(self, busy: set[bytes]) -> list[bytes | None]:
        """Users who are in no batch. A record without a key belongs to no user, and becomes a dead letter."""
        return [key for key in self._of if key is None or key not in busy]

    def take(self, users: list[bytes | None], most: int) -> list[Any]:
        """The next event of each of these users, at most `most`, and after them more events of hot users."""
        out: list[Any] = []
        for key in users[:most]:
            own = self._of.pop(key)
            many = len(own) if key is None else max(1, min(len(own) - HOT, _MOST))
            out += [own.popleft() for _ in range(min(many, most))]
            self.events -= min(many, most)
            if own:
                self._of[key] = own  # behind the others: their events wait for as long
        self.counted = sum(min(len(own), _COUNTED) for own in self._of.values())
        return out
