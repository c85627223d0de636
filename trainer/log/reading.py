"""The training log out of Parquet files: transactions of a stretch of time, and the labels that had arrived.

One policy, that of the stream: of several labels of a payment the newest by label time counts; of equal times the one
of the source that stands higher, and of one source the last that was written (panther_core.data.events.counts_more). A
label of an id that its user has used for several payments counts for none of them: nobody knows which is meant. Read by
columns and joined by arrow: there are no objects of Python but the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.events import standing
from panther_core.data.table import TransactionTable, Words
from panther_core.data.topics import LABELS, TRANSACTIONS
from trainer.log.either import Log, open_log
from trainer.log.store import date_of

_KEYS = ["user_id", "transaction_id"]
_PAID = ["merchant_id", "merchant_category", "currency", "channel", "country", "device", "amount", "profile"]


def read_table(
    folder: Path, since_ms: int = 0, until_ms: int = 2**62, rates: Mapping[str, float] = MappingProxyType({})
) -> TransactionTable:
    """Transactions with since <= event time < until, in time order, copies included (a training counts them once).

    Labels are those that had arrived by the newest of these transactions; -1 where none had. `rates`: as
    `decode_transaction`: payments in a currency that it does not name are left out. Raises BadInput where there is no
    transaction.
    """
    store = open_log(folder)
    days = date_of(since_ms), "9999" if until_ms >= 2**62 else date_of(until_ms + DAY_MS)
    columns = [*_KEYS, *_PAID, "event_time_ms", "partition", "offset", "timestamp_ms"]
    moment = pc.field("event_time_ms")
    fits = pc.field("problem").is_null() & (moment >= since_ms) & (moment < until_ms)
    found = store.dataset(TRANSACTIONS, *days).to_table(columns=columns, filter=fits)
    if not found.num_rows:
        raise BadInput(f"expected transactions in {folder} from {days[0]} on, found none: `panther ingest {folder}`")
    found = found.append_column("label", _labels(store, found))
    found = _in_one_currency(found, rates) if rates else found
    found = found.sort_by([(name, "ascending") for name in ("event_time_ms", "timestamp_ms", "partition", "offset")])
    facts = found["profile"].combine_chunks().dictionary_encode()
    given = [msgspec.json.decode(text or "null") or {} for text in facts.dictionary.to_pylist()]
    names = dict.fromkeys(name for profile in given for name in profile)
    return TransactionTable(
        transaction_id=np.asarray(found["transaction_id"].to_pylist(), np.str_),
        user=_words(found, "user_id"),
        merchant=_words(found, "merchant_id"),
        category=_words(found, "merchant_category"),
        channel=_words(found, "channel"),
        currency=_words(found, "currency"),
        amount=found["amount"].to_numpy(),
        time_ms=found["event_time_ms"].to_numpy(),
        label=found["label"].to_numpy(),
        country=_words(found, "country"),
        device=_words(found, "device"),
        profile={name: [profile.get(name) for profile in given] for name in names},
        profile_row=facts.indices.to_numpy().astype(np.int32),
    )


def _in_one_currency(found: pa.Table, rates: Mapping[str, float]) -> pa.Table:
    names = pa.array([*rates], pa.string())
    at = pc.index_in(found["currency"], value_set=names)
    found, at = found.filter(pc.is_valid(at)), at.drop_null()
    worth = pc.take(pa.array([*rates.values()], pa.float64()), at.combine_chunks())
    base = next(currency for currency, one in rates.items() if one == 1)
    amount, currency = (found.schema.get_field_index(name) for name in ("amount", "currency"))
    found = found.set_column(amount, "amount", pc.multiply(found["amount"], worth))
    return found.set_column(currency, "currency", pa.array([base] * found.num_rows, pa.string()))


def _words(table: pa.Table, name: str) -> Words:
    coded = table[name].combine_chunks().dictionary_encode()
    index: NDArray[np.int32] = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Words(index, tuple(coded.dictionary.to_pylist()))


def _labels(store: Log, found: pa.Table) -> pa.Array:
    """The label [N] of each row."""
    if not store.rows(LABELS):
        return pa.array(np.full(found.num_rows, -1, np.int8))
    newest = pc.max(found["event_time_ms"]).as_py()
    fits = pc.field("problem").is_null() & (pc.field("label_time_ms") <= newest)
    columns = [*_KEYS, "label", "label_time_ms", "source", "partition", "offset"]
    labels = store.dataset(LABELS).to_table(columns=columns, filter=fits)
    coded = labels["source"].combine_chunks().dictionary_encode()
    rank_of = np.array([standing(word or "") for word in coded.dictionary.to_pylist()], np.int8)
    rank = rank_of[coded.indices.to_numpy()] if len(rank_of) else np.zeros(0, np.int8)
    labels = labels.append_column("rank", pa.array(rank)).append_column("told", pa.array(rank >= 0))
    order: list[Any] = [(name, "ascending") for name in (*_KEYS, "told", "label_time_ms", "rank", "offset")]
    newest_of = labels.sort_by(order).group_by(_KEYS, use_threads=False)
    labels = newest_of.aggregate([("label", "last"), ("label_time_ms", "last")])
    # copies have one content; of an id with several contents nobody knows which one a label means
    names = ("event_time_ms", *_PAID[:-1])
    content = found.select(_KEYS)
    for name in names:
        kind = found.schema.field(name).type
        content = content.append_column(name, pc.fill_null(found[name], "" if pa.types.is_string(kind) else 0))
    paid = content.group_by(_KEYS).aggregate([(name, which) for name in names for which in ("min", "max")])
    same = pa.array(np.ones(paid.num_rows, np.bool_))
    for name in names:
        same = pc.and_(same, pc.equal(paid[f"{name}_min"], paid[f"{name}_max"]))
    paid = paid.append_column("paid_ms", paid["event_time_ms_min"])
    labels = labels.join(paid.filter(same).select([*_KEYS, "paid_ms"]), keys=_KEYS, join_type="inner")
    # older than its payment, it is of another one with this id, which lies before what is read
    labels = labels.filter(pc.greater_equal(labels["label_time_ms_last"], labels["paid_ms"]))
    rows = found.select(_KEYS).append_column("row", pa.array(np.arange(found.num_rows)))
    joined = rows.join(labels, keys=_KEYS, join_type="left outer").sort_by("row")
    return pc.cast(pc.fill_null(joined["label_last"], -1), pa.int8()).combine_chunks()
