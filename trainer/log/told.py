"""The labels of payments that are read from a log.

One policy, that of the stream: of several labels of a payment the newest by label time counts; of equal times the one
of the source that stands higher, and of one source the last that was written (panther_core.data.events.counts_more). A
label of an id that its user has used for several payments counts for none of them: nobody knows which is meant.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.events import MAX_AHEAD_MS, standing
from panther_core.data.table import hash_words, mixed
from panther_core.data.topics import LABELS
from trainer.log.columns import batches, by_date, hashes, numbers, words
from trainer.log.either import Log
from trainer.log.store import date_of

_READ = ("user_id", "transaction_id", "label", "label_time_ms", "source", "offset")
_SAID = np.dtype(
    [("at", "i8"), ("time_ms", "i8"), ("offset", "i8"), ("rank", "i1"), ("label", "i1")]
)  # one label; `at`: place of its payment among the sorted keys


def labels_of(
    store: Log, key: NDArray[np.uint64], content: NDArray[np.uint64], time_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Labels [N] of payments in time order, and their times (epoch ms): 1 fraud, 0 not, -1 where none had arrived by
    the newest of them.

    `key`: hash of a payment's user and id; `content`: hash of what was paid. Labels are read date by date, the oldest
    first, so that no more than those of one date are held.
    """
    newest = int(time_ms[-1])
    order = np.argsort(key, kind="stable")
    keys = key[order]
    again = np.append(False, keys[1:] == keys[:-1])  # copies have one content
    changed = np.append(False, content[order[1:]] != content[order[:-1]])
    several = np.unique(keys[again & changed])
    del changed
    # by place among the keys; `told`: 1 for a word that counts more than one of MATURED
    label, told, told_ms = np.full(len(keys), -1, np.int8), np.full(len(keys), -1, np.int8), np.zeros_like(time_ms)
    fits = pc.field("problem").is_null() & (pc.field("label_time_ms") <= newest)
    for date in by_date(store, LABELS, "", date_of(newest + DAY_MS)):
        said = np.concatenate(
            [np.zeros(0, _SAID), *(_said(part, keys, several) for part in batches(date, _READ, fits))]
        )
        known = said["rank"] >= 0
        said = said[np.lexsort((said["offset"], said["rank"], said["time_ms"], known, said["at"]))]
        said = said[np.append(said["at"][1:] != said["at"][:-1], True)[: len(said)]]
        known = (said["rank"] >= 0).astype(np.int8)
        wins = known >= told[said["at"]]  # later dates are newer, but any word counts before one of MATURED
        said, known = said[wins], known[wins]
        # far older than its payment, it is of another one with this id, which lies before what is read; the payment's
        # clock may be as far ahead as a worker lets it be
        own = said["time_ms"] >= time_ms[order[said["at"]]] - MAX_AHEAD_MS
        label[said["at"]], told[said["at"]] = np.where(own, said["label"], -1), known
        told_ms[said["at"]] = said["time_ms"]
    pa.default_memory_pool().release_unused()
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(keys))))
    by_row, by_row_ms = np.empty_like(label), np.empty_like(told_ms)
    by_row[order], by_row_ms[order] = label[first], told_ms[first]
    return by_row, by_row_ms


def _said(batch: pa.RecordBatch, keys: NDArray[np.uint64], several: NDArray[np.uint64]) -> NDArray[np.void]:
    """The labels of a batch whose payments are among `keys` and not among `several`."""
    key = mixed([hashes(words(batch, "user_id")), hash_words(batch.column("transaction_id").to_pylist())])
    source = words(batch, "source")
    out = np.zeros(len(key), _SAID)
    out["at"] = np.searchsorted(keys, key)
    out["time_ms"], out["offset"] = numbers(batch, "label_time_ms"), numbers(batch, "offset")
    out["rank"] = source.map(np.array([standing(word) for word in source.words], np.int8))
    out["label"] = numbers(batch, "label")
    known = (keys[np.minimum(out["at"], len(keys) - 1)] == key) & ~np.isin(key, several)
    return out.take(np.flatnonzero(known))
