"""An own log: CSV, Parquet or JSON-lines files, by a mapping that says which column is what (docs/data.md).

`read("csv", path)`: the mapping file, or a folder with `mapping.toml` or `mapping.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from panther_core.data.formats.columns import least, none_given, same
from panther_core.data.formats.mapping import HELP, MAPPINGS, Mapping, load_mapping
from panther_core.data.formats.own_columns import OwnPart
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import Dialect, fail, stream_columns
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words
from panther_core.data.table_concat import concat

PROFILE: tuple[ProfileField, ...] = ()


def parts_of(named: Path) -> list[Path]:
    """Data files in the order of their names: a file, the parts in a folder and the folders in it, or what a pattern
    finds. A mapping, and names that begin with _ or ., are no parts."""
    if named.is_file():
        return [named]
    found = sorted(named.rglob("*") if named.is_dir() else map(Path, glob(str(named), recursive=True)))
    return [part for part in found if part.is_file() and part.name not in MAPPINGS and part.name[0] not in "_."]


def files_of(mapping: Mapping, file: Path) -> list[Path]:
    """The data files of a mapping. Raises InvalidFile where there is none."""
    if not (parts := parts_of(file.parent / mapping.data)):
        fail(
            file,
            f"expected a data file, a folder of parts or a pattern in {mapping.data!r}, beside the mapping, found none",
            f"correct `data`; {HELP}",
        )
    return parts


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    mapping, file = load_mapping(path)
    files = files_of(mapping, file)
    dialect, rows = Dialect(mapping.separator, mapping.quote, mapping.encoding), 0
    whole, last_ms, currencies = list[TransactionTable](), -(2**62), set[str]()
    for data in files:
        first_row = 1
        batches: Iterable[pa.RecordBatch | pa.Table] = stream_columns(data, mapping.needed(), dialect=dialect)
        if not mapping.sorted:
            read = [*batches]
            batches = [pa.Table.from_batches(read)] if read else []
        for batch in batches:
            table = _table(mapping, OwnPart(data, batch, first_row, mapping), rows)
            currencies.update(table.currency.words)
            if len(currencies) > 1 and not mapping.rates:
                fail(
                    data,
                    f"expected one currency in all parts, got {', '.join(sorted(currencies))}",
                    f"give [rates]; {HELP}",
                )
            if mapping.sorted:
                last_ms = _check_order(data, table.time_ms, last_ms, first_row, mapping)
                yield from period.parts(table, batch_rows)
                if last_ms >= period.end_ms:
                    return
            else:
                whole.append(table)
            first_row, rows = first_row + batch.num_rows, rows + batch.num_rows
    if not rows:
        fail(files[0], "expected transactions, found no row", "check that the file is complete")
    if whole:
        yield from period.parts(concat(whole), batch_rows)


def _check_order(file: Path, time_ms: NDArray[np.int64], last_ms: int, first_row: int, mapping: Mapping) -> int:
    """The time of the last row. Raises InvalidFile if a row is older than the row before it."""
    back = np.flatnonzero(np.diff(time_ms, prepend=last_ms) < 0)
    if len(back):
        fail(
            file,
            "expected rows in time order, this one is older than the one before",
            "sort the file or set sorted = false",
            first_row + int(back[0]),
            str(mapping.columns.event_time),
        )
    return int(time_ms[-1]) if len(time_ms) else last_ms


def _table(mapping: Mapping, part: OwnPart, before: int) -> TransactionTable:
    """`before`: rows of earlier parts."""
    columns, rows = mapping.columns, len(part)

    def words(name: str) -> Words | None:
        column, constant = getattr(columns, name), getattr(mapping.constants, name, None)
        return part.word_column(column) if column else same(constant, rows) if constant else None

    user, amount = part.required_words(columns.user_id), part.own_amounts(columns.amount)
    currency = words("currency") or none_given(rows)
    if columns.currency:
        amount, currency = part.in_one_currency(columns.currency, amount, currency)
    table = TransactionTable(
        transaction_id=_ids(mapping, part, before),
        user=user,
        merchant=part.required_words(columns.merchant_id),
        category=words("merchant_category") or none_given(rows),
        channel=words("channel") or none_given(rows),
        currency=currency,
        amount=amount,
        time_ms=part.own_times(columns.event_time),
        label=part.own_labels(columns.label) if columns.label else np.full(rows, -1, np.int8),
        country=words("country"),
        device=words("device"),
        fraud_kind=words("fraud_kind"),
        profile=_facts(part, user, mapping.profile),
    )
    kept = np.flatnonzero(~np.isnan(amount))
    return table if len(kept) == rows else table.take(kept)


def _ids(mapping: Mapping, part: OwnPart, before: int) -> NDArray[np.str_]:
    if mapping.columns.transaction_id is None:
        return np.char.add("r", np.arange(before + 1, before + 1 + len(part)).astype(np.str_))
    text = part.joined(mapping.columns.transaction_id)
    part.require_given(mapping.columns.transaction_id, text, "a transaction id")
    return np.asarray(text.to_pylist(), np.str_)


def _facts(part: OwnPart, user: Words, profile: dict[str, str]) -> dict[str, list[Any]]:
    """Facts of each user word, from the user's first row. Text that reads as a number stays text: buckets parse it."""
    first = least(user, np.arange(len(part)))
    return {name: part.array(column).take(pa.array(first)).to_pylist() for name, column in profile.items()}
