"""The load of `panther chaos`: steady, with copies, late events and bad records, as platforms send by mistake; and
labels, which follow, are repeated and taken back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from bench.waits import within
from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS
from panther_core.data.events import Label
from panther_core.data.generator.malformed import malformed
from panther_core.data.table import TransactionTable
from panther_core.data.topics import LABELS, TRANSACTIONS
from stream.faust_parts.producer import make_producer

KeyedRecord = tuple[bytes | None, bytes]
Addressed = tuple[str, bytes | None, bytes]
"""Topic, key and value."""
_COPIES, _LATE, _BAD = 0.02, 0.02, 0.01  # shares of the records that are sent twice, are late, are malformed
_LATE_MS = 3 * DAY_MS
_LABEL_LAG = 600  # records after its transaction a label is sent: that one is stored by then
_LABEL_DELAY_MS = DAY_MS // 2
_TOLD, _FRAUDS, _AGAIN, _TAKEN_BACK = 0.5, 0.1, 0.05, 0.05  # shares of transactions, and of labels
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


def to_transactions(records: Iterable[KeyedRecord]) -> Iterator[Addressed]:
    """The same records, for the topic `transactions`."""
    return ((TRANSACTIONS, key, value) for key, value in records)


def with_labels(table: TransactionTable, seed: int) -> Iterator[Addressed]:
    """`traffic_of` the table, and labels of half of its rows, some sent twice, some taken back."""
    rng = np.random.default_rng([seed, 1])
    for sent, record in enumerate(to_transactions(traffic_of(table, seed))):
        yield record
        row = sent - _LABEL_LAG  # each row is at least a record: this one was sent so many records ago, or more
        told, fraud, again, back = rng.random(4).tolist()
        if row >= 0 and told < _TOLD:
            label, user = int(fraud < _FRAUDS), table.user[row] or ""
            said = [label] + [label] * (again < _AGAIN) + [1 - label] * (back < _TAKEN_BACK)
            for later, value in enumerate(said):
                when_ms = int(table.time_ms[row]) + _LABEL_DELAY_MS + later
                name = str(table.transaction_id[row])
                said_of = {"transaction_id": name, "user_id": user, "source": "chaos"}
                yield LABELS, user.encode(), _encode(Label(**said_of, label=value, label_time=when_ms))


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
    kafka: KafkaSettings, records: Iterator[Addressed], rate: float, stop: Callable[[], bool], flow: Flow
) -> int:
    """Send `rate` transactions a second until `stop`, even while the broker is down; returns how many are stored.

    Open loop: a record that could not be sent on time is sent as soon as possible. Raises Stuck where Kafka does not
    take the last records in time.
    """
    producer = make_producer(kafka)
    await within(_STORED_S, "the sender to reach Kafka", producer.start())
    started, sent = time.monotonic(), 0
    pending: set[asyncio.Future[object]] = set()
    try:
        for topic, key, value in records:
            started += await flow.wait(pending)
            ahead = started + sent / rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(max(ahead, _TICK_S))
            if stop():
                break
            future = await producer.send(topic, value, key=key)
            pending.add(future)
            future.add_done_callback(lambda f: None if f.cancelled() or f.exception() else pending.discard(f))
            sent += topic == TRANSACTIONS
        await within(_STORED_S, f"the last {len(pending)} records to be stored", asyncio.gather(*pending))
    finally:
        flow.end()
        await within(_STORED_S, "the sender to end", producer.stop())
    return sent
