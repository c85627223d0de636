"""A log read date by date, each batch at once turned into numbers: strings are never held for more than one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from panther_core.data.table import Words, hash_words
from trainer.log.either import Log

_BATCH = 65_536  # rows


def by_date(store: Log, topic: str, since: str, until: str) -> Iterator[ds.Dataset]:
    """What is here of a topic from date `since` to before `until`, each date by itself, the oldest first."""
    dates = [date for date in sorted(store.rows_by_date(topic)) if since <= date < until]
    for first, after in pairwise([*dates, until]):
        yield store.dataset(topic, first, after)


def batches(found: ds.Dataset, columns: Sequence[str], fits: pc.Expression) -> Iterator[pa.RecordBatch]:
    """The rows for which `fits` holds, a few at a time; the next files are not read ahead."""
    every = found.to_batches(
        columns=list(columns), filter=fits, batch_size=_BATCH, batch_readahead=1, fragment_readahead=1
    )
    return (batch for batch in every if batch.num_rows)


def numbers(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    """A column of numbers; 0 where none is given."""
    values: NDArray[Any] = pc.fill_null(batch.column(name), 0).to_numpy(zero_copy_only=False)
    return values


def words(batch: pa.RecordBatch, name: str) -> Words:
    """A column of words."""
    coded = batch.column(name).dictionary_encode()
    index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Words(index, tuple(coded.dictionary.to_pylist()))


def hashes(column: Words) -> NDArray[np.uint64]:
    """Hash [N] of each row's word, 0 where none is given."""
    return column.map(hash_words(column.words))


def in_order(index: NDArray[np.int32], every: Sequence[str]) -> Words:
    """The column of rows with these numbers of words (-1: none), its words in the order of the rows that they first
    stand in."""
    seen, first = np.unique(index, return_index=True)
    ranked = seen[np.argsort(first)]
    ranked = ranked[ranked >= 0]
    number = np.full(len(every) + 1, -1, np.int32)  # the last one for rows without a word
    number[ranked] = np.arange(len(ranked), dtype=np.int32)
    return Words(number[index], tuple(every[at] for at in ranked.tolist()))


def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The parts, one at least, as one array. Empties the list, so that its memory is held twice by one column alone."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole
