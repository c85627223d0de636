"""Tables of decoded records: of transactions as producers send them, each with the profile in its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from panther_core.data.events import Transaction, event_time_ms
from panther_core.data.table import TransactionTable, factorise


def from_transactions(
    transactions: Sequence[Transaction], label: Mapping[tuple[str, str], tuple[int, int]] | None = None
) -> TransactionTable:
    """Table of decoded records in event-time order (ties in the order given), each with the profile in that record.

    `label`: by user id and transaction id, with its time (epoch ms); -1 where there is none.
    """
    order = np.argsort([event_time_ms(t.event_time) for t in transactions], kind="stable")
    rows = [transactions[i] for i in order]
    if label is None:
        return _table(rows)
    known = np.array([label.get((t.user_id, t.transaction_id), (-1, 0)) for t in rows], np.int64).reshape(-1, 2)
    return replace(_table(rows), label=known[:, 0].astype(np.int8), told_ms=known[:, 1])


def as_arrived(transactions: Sequence[Transaction]) -> TransactionTable:
    """Table of decoded records in the order given (late records are not moved), each with the profile in that record.

    All labels are -1.
    """
    return _table(transactions)


def _table(rows: Sequence[Transaction]) -> TransactionTable:
    places: dict[bytes, int] = {}
    encoded = (msgspec.json.encode(t.profile) for t in rows)
    profile_row = np.array([places.setdefault(facts, len(places)) for facts in encoded], np.int32)
    given = [msgspec.json.decode(facts) or {} for facts in places]
    names = dict.fromkeys(name for facts in given for name in facts)
    return TransactionTable(
        transaction_id=np.array([t.transaction_id for t in rows], np.str_),
        user=factorise([t.user_id for t in rows]),
        merchant=factorise([t.merchant_id for t in rows]),
        category=factorise([t.merchant_category for t in rows]),
        channel=factorise([t.channel for t in rows]),
        currency=factorise([t.currency for t in rows]),
        amount=np.array([t.amount for t in rows], np.float64),
        time_ms=np.array([event_time_ms(t.event_time) for t in rows], np.int64),
        label=np.full(len(rows), -1, np.int8),
        country=factorise([t.country for t in rows]),
        device=factorise([t.device for t in rows]),
        profile={name: [facts.get(name) for facts in given] for name in names},
        profile_row=profile_row,
    )
