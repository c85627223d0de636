"""From record values to columns: decode, check, hash. A record that cannot be scored becomes a dead letter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import InvalidEvent
from panther_core.data.events import Transaction, decode_transaction, event_time_ms, record_time_ms
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema, hash64
from panther_core.data.table import assemble, hash_words, mixed
from panther_core.kafka.partitioner import Partitioner, partition_of


class Record(Protocol):
    """The fields of a consumed record that intake reads."""

    key: bytes | None
    value: bytes | None
    offset: int
    partition: int

    @property
    def timestamp(self) -> float | None:
        """Of the record, in seconds; None or below 0 where it has none."""
        ...


@dataclass(frozen=True)
class Placement:
    """What the application's settings say of its records: how many partitions the topic has, by which partitioner its
    producers place a user's records on them, and what currencies are worth (`decode_transaction`)."""

    partitions: int
    partitioner: Partitioner
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetter:
    """A record that cannot be scored, and why: `code` is stable, `message` names the field."""

    record: Record
    code: str
    message: str


@dataclass(frozen=True)
class Intake:
    """A micro-batch: its valid records, each column in the same order, and its dead letters."""

    records: list[Record]
    transactions: list[Transaction]
    events: NDArray[np.void]  # EVENT [N]
    received_ms: NDArray[np.int64]  # [N]
    dead: list[DeadLetter]


def read_batch(
    records: list[Record],
    schema: AttributeSchema,
    risk: MerchantRisk,
    placement: Placement | None = None,
    now_ms: int | None = None,
) -> Intake:
    """Decode and check a micro-batch. No content of a record raises: a wrong record is put among the dead letters.

    `placement`: what records are checked against, where it is given. `now_ms`: the worker's clock, epoch
    ms; the system's where it is not given.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    placement = placement or Placement(0, "none")
    partitions, partitioner = placement.partitions, placement.partitioner
    checked = partitioner != "none"
    kept: list[Record] = []
    transactions: list[Transaction] = []
    times: list[int] = []
    received: list[int] = []
    dead: list[DeadLetter] = []
    for record in records:
        try:
            transaction = decode_transaction(record.value, placement.rates)
            received_ms = record_time_ms(None if record.timestamp is None else round(record.timestamp * 1000), now_ms)
            time_ms = event_time_ms(transaction.event_time, min(received_ms, now_ms))
            if record.key != transaction.user_id.encode():
                raise InvalidEvent("wrong_key", _wrong_key(record.key, transaction.user_id))
            if checked and record.partition != (right := partition_of(record.key, partitions, partitioner)):
                raise InvalidEvent(
                    "wrong_partition",
                    f"expected partition {right} of {partitions} ({partitioner} of the key), got {record.partition}: "
                    "set the producer's partitioner (librdkafka: partitioner=murmur2_random), or PANTHER_PARTITIONER "
                    "to the one that all producers use",
                )
        except InvalidEvent as error:
            dead.append(DeadLetter(record, error.code, str(error)))
            continue
        kept.append(record)
        transactions.append(transaction)
        times.append(time_ms)
        received.append(received_ms)
    events = _events(kept, transactions, times, schema, risk)
    return Intake(kept, transactions, events, np.array(received, np.int64), dead)


def _wrong_key(key: bytes | None, user: str) -> str:
    if key == msgspec.json.encode(user):
        return (
            "expected the record key to be `$.user_id`, got it in JSON quotes, which place it on another partition: "
            "set the producer's key converter to plain text (Kafka Connect: StringConverter)"
        )
    return "expected the record key to be `$.user_id` (it decides the partition), got another"


def _events(
    records: list[Record],
    transactions: list[Transaction],
    times: list[int],
    schema: AttributeSchema,
    risk: MerchantRisk,
) -> NDArray[np.void]:
    return assemble(
        schema,
        risk,
        words=np.array([_words(t.merchant_category, t.channel, t.currency) for t in transactions], np.uint64),
        transaction=hash_words(t.transaction_id for t in transactions),
        user=np.array([_hash(t.user_id) for t in transactions], np.uint64),
        merchant=np.array([_hash(t.merchant_id) for t in transactions], np.uint64),
        device=np.array([_hash(t.device) if t.device else 0 for t in transactions], np.uint64),
        country=np.array([_hash(t.country) if t.country else 0 for t in transactions], np.uint64),
        time_ms=np.array(times, np.int64),
        offset=np.array([r.offset for r in records], np.int64),
        amount=np.array([t.amount for t in transactions], np.float64),
        category=schema.category_codes(t.merchant_category or "" for t in transactions),
        channel=schema.channel_codes(t.channel or "" for t in transactions),
        profile=schema.profile_codes([t.profile for t in transactions]),
    )


@lru_cache(4096)  # few combinations come again and again
def _words(*words: str | None) -> int:
    return int(mixed([np.array([hash64(word) if word else 0], np.uint64) for word in words])[0])


_hash = lru_cache(1 << 17)(hash64)  # of users, merchants, devices and countries, which come again
