"""From record values to columns: decode, check, hash. A record that cannot be scored becomes a dead letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import InvalidEvent
from panther_core.data.events import Transaction, decode_transaction, event_time_ms
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import assemble, hash_words


class Record(Protocol):
    """The fields of a consumed record that intake reads; `timestamp`: append time in seconds, as Faust gives it."""

    key: bytes | None
    value: bytes | None
    offset: int
    partition: int
    timestamp: float


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


def read_batch(records: list[Record], schema: AttributeSchema, risk: MerchantRisk) -> Intake:
    """Decode and check a micro-batch. No content of a record raises: a wrong record is put among the dead letters."""
    kept: list[Record] = []
    transactions: list[Transaction] = []
    times: list[int] = []
    dead: list[DeadLetter] = []
    for record in records:
        try:
            transaction = decode_transaction(record.value)
            time_ms = event_time_ms(transaction.event_time, round(record.timestamp * 1000))
            if record.key != transaction.user_id.encode():
                raise InvalidEvent(
                    "wrong_key", "expected the record key to be `$.user_id` (it decides the partition), got another"
                )
        except InvalidEvent as error:
            dead.append(DeadLetter(record, error.code, str(error)))
            continue
        kept.append(record)
        transactions.append(transaction)
        times.append(time_ms)
    received = np.array([round(r.timestamp * 1000) for r in kept], np.int64)
    return Intake(kept, transactions, _events(kept, transactions, times, schema, risk), received, dead)


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
        transaction=hash_words(t.transaction_id for t in transactions),
        user=hash_words(t.user_id for t in transactions),
        merchant=hash_words(t.merchant_id for t in transactions),
        device=hash_words(t.device for t in transactions),
        country=hash_words(t.country for t in transactions),
        time_ms=np.array(times, np.int64),
        offset=np.array([r.offset for r in records], np.int64),
        amount=np.array([t.amount for t in transactions], np.float64),
        category=schema.category_codes(t.merchant_category for t in transactions),
        channel=schema.channel_codes(t.channel for t in transactions),
        profile=schema.profile_codes([t.profile for t in transactions]),
    )
