"""Steady load with everything in it that a payment platform sends by mistake: copies, late events, bad records."""

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

Record = tuple[bytes | None, bytes]
_COPIES, _LATE, _BAD = 0.02, 0.02, 0.01  # shares of the records
_LATE_MS = 3 * DAY_MS
_TICK_S = 0.01
_encode = msgspec.json.Encoder().encode


def troubled(table: TransactionTable, seed: int) -> Iterator[Record]:
    """(key, value) of every row of `table`, some of them late, some sent twice, and bad records between them."""
    rng = np.random.default_rng(seed)
    late = rng.random(len(table)) < _LATE
    table = replace(table, time_ms=table.time_ms - late * _LATE_MS)
    draws, bad = rng.random((len(table), 2)), malformed(int(len(table) * _BAD * 2) + 50, seed)
    waiting: list[Record] = []  # copies that are still to come
    for transaction, (copy, wrong) in zip(table.rows(), draws.tolist(), strict=True):
        record = transaction.user_id.encode(), _encode(transaction)
        yield record
        if copy < _COPIES:  # at once, or a few transactions later
            waiting.append(record)
        if waiting and wrong > 0.9:
            yield waiting.pop(0)
        if wrong < _BAD and bad:
            yield key_of(payload := bad.pop()[1]), payload
        elif wrong < 1.2 * _BAD:
            yield b"somebody else", record[1]
    yield from waiting


def key_of(payload: bytes) -> bytes | None:
    """The key a sender would have given a bad record: its user's, where that can be read."""
    try:
        user = json.loads(payload)["user_id"]
        return user.encode() if isinstance(user, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return b"unreadable"


async def send(kafka: KafkaSettings, records: Iterator[Record], rate: float, stop: Callable[[], bool]) -> int:
    """Send at `rate` a second until `stop`, whatever the broker does meanwhile; returns how many are stored.

    Open loop: what could not be sent on time is sent as soon as it can be.
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
