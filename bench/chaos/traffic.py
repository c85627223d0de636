"""The load of `panther chaos`: steady, with copies, late events and bad records, as platforms send by mistake."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

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


async def send(kafka: KafkaSettings, records: Iterator[KeyedRecord], rate: float, stop: Callable[[], bool]) -> int:
    """Send at `rate` a second until `stop`, even while the broker is down; returns how many records are stored.

    Open loop: a record that could not be sent on time is sent as soon as possible.
    """
    producer = make_producer(kafka)
    await producer.start()
    started, sent = time.monotonic(), 0
    pending: set[asyncio.Future[object]] = set()
    try:
        for key, value in records:
            ahead = started + sent / rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(max(ahead, _TICK_S))
            if stop():
                break
            future = await producer.send(TRANSACTIONS, value, key=key)
            pending.add(future)
            future.add_done_callback(lambda f: None if f.cancelled() or f.exception() else pending.discard(f))
            sent += 1
        await asyncio.gather(*pending)
    finally:
        await producer.stop()
    return sent
