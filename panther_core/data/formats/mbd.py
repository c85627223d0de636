"""MBD-mini, the Multimodal Banking Dataset's small form (Hugging Face `ai-lab/MBD-mini`): folder `detail/trx`.

Parquet files in `detail/trx/fold=0` ... `fold=4` (from `detail.tar.gz`), one row a transaction of a client, which is a
company. `path` is the folder that holds `detail`, or `trx` itself, or one file. The columns follow PANTHER's token for
this set (amount, currency, event type, source type, destination type):
- user is `client_id`; channel is `event_type`;
- category is currency, `src_type11` and `dst_type11` in one word (`6|12|7`), the parts of the token but the channel;
- the counterparty has no name, so the merchant is the counterparty's kind, `dst_type11` and `dst_type12` (`7/31`);
- `currency` is a number whose meaning is not published, so the currency's word is that number;
- no fraud labels, country, device or profile. `event_subtype`, `src_type12` and the types 2x and 3x are not read.
The id is `m` and the row's number, counted over the files in order of their names.

Written after the published description of the columns, without a sample of the files at hand; public programs that read
the set use the same folder, the same names and a date-time column. Assumptions: `event_time` is a timestamp (or ISO
text), taken for UTC; amounts are in an anonymised unit, and of a negative amount the size is used; types may be null
(not given), while amount, client and time may not. The other form, `ptls`, with one row of lists a client, is refused.
Rows are in no order of time and are sorted through temporary files (40 bytes a row).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import fail, stream_columns
from panther_core.data.formats.shared_words import joined, named, numbered
from panther_core.data.formats.spool import by_time, regroup
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable

PROFILE: tuple[ProfileField, ...] = ()
_COLUMNS = (
    "client_id", "event_time", "amount", "event_type", "currency", "src_type11", "dst_type11", "dst_type12",
)  # fmt: skip
_WORDS = ("user", "channel", "currency", "category", "merchant")
_RECORD = np.dtype([("time_ms", "i8"), ("row", "i8"), ("amount", "f8"), *((name, "i4") for name in _WORDS)])
Numbers = dict[str, dict[str, int]]


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    numbers: Numbers = {name: {} for name in _WORDS}
    words: dict[str, list[str]] = {}
    for records in regroup(by_time(_parse(_files(path), period, numbers)), batch_rows):
        # `by_time` has read all files before it gives the first records, so the numbering is complete
        words = words or {name: list(known) for name, known in numbers.items()}
        yield _table(records, words)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path / "detail" / "trx", path / "trx", path):
        if files := sorted(folder.rglob("*.parquet")):
            return files
    raise InvalidFile(f"{path}: expected Parquet files in detail/trx (fold=0, ...), found none: check the path")


def _parse(files: list[Path], period: Period, numbers: Numbers) -> Iterator[NDArray[np.void]]:
    row = 1
    for file in files:
        first = 1
        for batch in stream_columns(file, _COLUMNS):
            out = _records(Part(file, batch, first), numbers)
            out["row"] = np.arange(row, row + len(out))
            first, row = first + len(out), row + len(out)
            yield out[period.rows(out["time_ms"])]


def _records(part: Part, numbers: Numbers) -> NDArray[np.void]:
    if pa.types.is_list(part.data.schema.field("event_time").type):
        fail(part.path, "expected one row a transaction, got lists (the ptls form)", "give the folder detail/trx")
    source, kind, currency = (part.words(name) for name in ("src_type11", "dst_type11", "currency"))
    columns = {
        "user": part.words("client_id", required=True),
        "channel": part.words("event_type"),
        "currency": currency,
        "category": joined((currency, source, kind), "|"),
        "merchant": joined((kind, part.words("dst_type12")), "/"),
    }
    out = np.zeros(len(part), _RECORD)
    out["time_ms"] = part.times("event_time", "iso")
    out["amount"] = np.abs(part.amounts("amount", negative=True))
    for name, column in columns.items():
        out[name] = numbered(column, numbers[name])
    return out


def _table(records: NDArray[np.void], words: dict[str, list[str]]) -> TransactionTable:
    user, channel, currency, category, merchant = (named(records[name], words[name]) for name in _WORDS)
    return TransactionTable(
        transaction_id=np.char.add("m", records["row"].astype(np.str_)),
        user=user,
        merchant=merchant,
        category=category,
        channel=channel,
        currency=currency,
        amount=records["amount"].copy(),
        time_ms=records["time_ms"].copy(),
        label=np.full(len(records), -1, np.int8),
    )
