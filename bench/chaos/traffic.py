"""The load of `panther chaos`: steady, with copies, late events and bad records, as platforms send by mistake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from bench.waits import within
from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS
from panther_core.data.generator.malformed import malformed
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.producer import make_producer

KeyedRecord = tuple[bytes | None, bytes]
_COPIES, _LATE, _BAD = 0.02, 0.02, 0.01  # shares of the records that are sent twice, are late, are malformed
_LATE_MS = 3 * DAY_MS
_TICK_S = 0.01
_STORED_S = 120.0  # longer than any trouble keeps Kafka down
_encode = msgspec.json.Encoder().encode


def traffic_of(table: TransactionTable, seed: int) -> Iterator[KeyedRecord]:
    """(key, value) of every row of `table`, some of them late, some sent twice, with bad records between them."""
    rng = np.random.default_rng(seed)
    late = rng.random(len(table)) < _LATE
    table = replace(table, time_ms=table.time_ms - late * _LATE_MS)
    draws, bad = rng.random((len(table), 2)), malformed(int(len(table) * _BAD * 2) + 50, seed)
    waiting: list[KeyedRecord] = []  # copies that have yet to be sent
    for transaction, (copy, wrong) in zip(table.rows(), draws.tolist(), strict=True):
        record = transaction.user_id.encode(), _encode(transaction)
        yield record
        if copy < _COPIES:  # sent next, or a few transactions later
            waiting.append(record)
        if waiting and wrong > 0.9:
            yield waiting.pop(0)
        if wrong < _BAD and bad:
            yield key_of(payload := bad.pop()[1]), payload
        elif wrong < 1.2 * _BAD:
            yield b"somebody else", record[1]
    yield from waiting


def key_of(payload: bytes) -> bytes | None:
    """The key that a sender would give a record: the user's, or a fixed one where no user can be read."""
    try:
        user = json.loads(payload)["user_id"]
        return user.encode() if isinstance(user, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return b"unreadable"


class Flow:
    """Lets a trouble hold the sender back for a while: the sender waits, and its schedule moves on by that time."""

    def __init__(self) -> None:
        self._open, self._quiet, self._ended = asyncio.Event(), asyncio.Event(), False
        self._open.set()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While the context is open, nothing is sent. Raises Stuck when what is under way is not stored in time."""
        self._quiet.clear()
        self._open.clear()
        try:
            if not self._ended:
                await within(_STORED_S, "the sender's records to be stored", self._quiet.wait())
            yield
        finally:
            self._open.set()

    async def wait(self, pending: set[asyncio.Future[object]]) -> float:
        """The sender's part: where it is held, wait until it may go on; returns how many seconds that took."""
        if self._open.is_set():
            return 0.0
        held_s = time.monotonic()
        await asyncio.gather(*pending)
        self._quiet.set()
        await self._open.wait()
        return time.monotonic() - held_s

    def end(self) -> None:
        """Nothing will be sent any more: whoever holds the flow need not wait for it."""
        self._ended = True
        self._quiet.set()


async def send(
    kafka: KafkaSettings, records: Iterator[KeyedRecord], rate: float, stop: Callable[[], bool], flow: Flow
) -> int:
    """Send at `rate` a second until `stop`, even while the broker is down; returns how many records are stored.

    Open loop: a record that could not be sent on time is sent as soon as possible. Raises Stuck where Kafka does not
    take the last records in time.
    """
    producer = make_producer(kafka)
    await within(_STORED_S, "the sender to reach Kafka", producer.start())
    started, sent = time.monotonic(), 0
    pending: set[asyncio.Future[object]] = set()
    try:
        for key, value in records:
            started += await flow.wait(pending)
            ahead = started + sent / rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(max(ahead, _TICK_S))
            if stop():
                break
            future = await producer.send(TRANSACTIONS, value, key=key)
            pending.add(future)
            future.add_done_callback(lambda f: None if f.cancelled() or f.exception() else pending.discard(f))
            sent += 1
        await within(_STORED_S, f"the last {len(pending)} records to be stored", asyncio.gather(*pending))
    finally:
        flow.end()
        await within(_STORED_S, "the sender to end", producer.stop())
    return sent
