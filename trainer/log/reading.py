"""The training log out of Parquet files: transactions of a stretch of time, and the labels that had arrived.

Read by date, in batches that become columns of numbers at once, so that memory is that of the columns: some 60 bytes a
payment, and 40 more while labels are joined. Of ids only the 64-bit hashes are kept, by which states and merchants know
payments too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.markup import escape

from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.memory import give_back
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable, Words, content_hash, hash_words, mixed
from panther_core.data.table_concat import Numbering
from panther_core.data.topics import TRANSACTIONS
from trainer.log.columns import batches, by_date, hashes, in_order, joined, numbers, words
from trainer.log.either import open_log
from trainer.log.store import date_of
from trainer.log.told import labels_of

#: columns of the log by their names in the table
_WORDS = {
    "user": "user_id",
    "merchant": "merchant_id",
    "category": "merchant_category",
    "channel": "channel",
    "currency": "currency",
    "country": "country",
    "device": "device",
}
_PLACE = ("event_time_ms", "timestamp_ms", "partition", "offset")
_NUMBERED = (*_WORDS.values(), "profile")
_READ = ("transaction_id", *_NUMBERED, "amount", *_PLACE)
_TOLD, _OWN = ("key", "content", "event_time_ms", "kept"), ("transaction_id", "amount", *_NUMBERED)


def read_table(
    folder: Path, since_ms: int = 0, until_ms: int = 2**62, rates: Mapping[str, float] = MappingProxyType({})
) -> TransactionTable:
    """Transactions with since <= event time < until, in time order, copies included (a training counts them once).

    Its `transaction_id` are hashes. Labels are those that had arrived by the newest of these transactions; -1 where
    none had (trainer.log.told). `rates`: as `decode_transaction`: payments in a currency that it does not name are left
    out. Raises BadInput where there is no transaction.
    """
    store = open_log(folder)
    days = date_of(since_ms), "9999" if until_ms >= 2**62 else date_of(until_ms + DAY_MS)
    moment = pc.field("event_time_ms")
    fits = pc.field("problem").is_null() & (moment >= since_ms) & (moment < until_ms)
    paid, none = _Payments(rates), Counter[str]()
    for day in by_date(store, TRANSACTIONS, *days):
        for batch in batches(day, ["problem"], pc.field("problem").is_valid()):
            none.update(batch.column("problem").to_pylist())
        for batch in batches(day, _READ, fits):
            paid.add(batch)
        paid.end_day()
    if none:
        why = ", ".join(f"{problem} {count:,}" for problem, count in none.most_common())
        say(f"  {none.total():,} records in {escape(str(folder))} are no payments and are left out: {why}")
    if not any(map(len, paid.parts.get("amount", []))):
        raise BadInput(f"expected transactions in {folder} from {days[0]} on, found none: `panther ingest {folder}`")
    key, content, time_ms, kept = (joined(paid.parts.pop(name)) for name in _TOLD)
    label, told_ms = labels_of(store, key, content, time_ms)
    del key, content
    if not kept.all():
        say(f"  {int((~kept).sum()):,} payments in currencies that PANTHER_RATES does not name are left out")
        time_ms, label, told_ms = time_ms[kept], label[kept], told_ms[kept]
    table = paid.table(time_ms, label, told_ms)
    give_back()
    return table


class _Payments:
    """Payments as columns of numbers; those of one day are put in order at its end."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        #: by name, a part a day; _TOLD with the payments that are left out, whose ids others may have
        self.parts: dict[str, list[NDArray[Any]]] = {}
        self._rates = rates
        self._numbering = {name: Numbering() for name in _NUMBERED}
        self._day: list[dict[str, NDArray[Any]]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """The next payments of this day."""
        found = {name: words(batch, name) for name in _NUMBERED}
        hashed = {name: hashes(found[name]) for name in _WORDS.values()}
        user, transaction = hashed.pop("user_id"), hash_words(batch.column("transaction_id").to_pylist())
        amount = numbers(batch, "amount")
        part = {name: numbers(batch, name) for name in _PLACE}
        part["key"] = mixed([user, transaction])
        part["content"] = content_hash(amount, part["event_time_ms"], *hashed.values())
        part["kept"] = np.ones(len(amount), np.bool_)
        if self._rates:
            base = next(currency for currency, one in self._rates.items() if one == 1)
            given = found["currency"]
            rate = given.map(np.array([self._rates.get(word, np.nan) for word in given.words]), missing=np.nan)
            part["kept"], amount = ~np.isnan(rate), amount * rate
            found["currency"] = Words(np.zeros(len(amount), np.int32), (base,))
        part |= {name: self._numbering[name].of(column) for name, column in found.items()}
        self._day.append(part | {"transaction_id": transaction, "amount": amount})

    def end_day(self) -> None:
        """Put this day's payments in order, and leave out those that are not kept."""
        if not self._day:
            return
        day = {name: np.concatenate([part[name] for part in self._day]) for name in self._day[0]}
        self._day.clear()
        order = np.lexsort([day[name] for name in reversed(_PLACE)])
        own = order[day["kept"][order]]
        for name in (*_TOLD, *_OWN):
            self.parts.setdefault(name, []).append(day[name][order if name in _TOLD else own])

    def table(
        self, time_ms: NDArray[np.int64], label: NDArray[np.int8], told_ms: NDArray[np.int64]
    ) -> TransactionTable:
        """Those that are kept, whose times, labels and times of labels [N] these are."""

        def column(name: str) -> Words:
            return in_order(joined(self.parts.pop(name)), self._numbering.pop(name).words)

        facts = column("profile")
        given = [msgspec.json.decode(text or "null") or {} for text in facts.words]
        names = dict.fromkeys(name for profile in given for name in profile)
        found: dict[str, Any] = {name: column(read) for name, read in _WORDS.items()}
        return TransactionTable(
            transaction_id=joined(self.parts.pop("transaction_id")),
            amount=joined(self.parts.pop("amount")),
            time_ms=time_ms,
            label=label,
            told_ms=told_ms,
            profile={name: [profile.get(name) for profile in given] for name in names},
            profile_row=facts.index,
            **found,
        )
