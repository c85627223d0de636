"""The handbook's daily pickles (`2018-04-01.pkl`, ...) as one Parquet file that `read("fdh", ...)` takes.

Columns keep the handbook's names. Its counters of days and seconds are left out, since TX_DATETIME says the same. The
pickles are read by `frame_pickle`, which runs no code that a file names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from panther_core.base.errors import InvalidFile
from panther_core.base.files import written_whole
from panther_core.data.formats.columns import Part
from panther_core.data.formats.frame_pickle import read_frame
from panther_core.data.formats.reading import fail

_DAY = re.compile(r"\d{4}-\d\d-\d\d\.pkl")
SCHEMA = pa.schema(
    [
        ("TRANSACTION_ID", pa.int64()),
        ("TX_DATETIME", pa.timestamp("ms")),
        ("CUSTOMER_ID", pa.int64()),
        ("TERMINAL_ID", pa.int64()),
        ("TX_AMOUNT", pa.float64()),
        ("TX_FRAUD", pa.int8()),
        ("TX_FRAUD_SCENARIO", pa.int8()),
    ]
)


@dataclass(frozen=True)
class Converted:
    """What the Parquet file holds."""

    days: int
    transactions: int
    frauds: int


def convert(folder: Path, out: Path, on_day: Callable[[], None] = lambda: None) -> Converted:
    """Write the days of `folder` to `out`, a day at a time; `out` appears when it is whole. `on_day` after each.

    Raises InvalidFile: no days there, a pickle that is refused (file, global), a wrong value (file, row, column).
    """
    days = sorted(path for path in folder.glob("*.pkl") if _DAY.fullmatch(path.name))
    if not days:
        raise InvalidFile(f"{folder}: expected the handbook's days (2018-04-01.pkl, ...), found none: check the path")
    rows = frauds = 0
    with written_whole(out) as unfinished, pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
        for day in days:
            table = read_day(day)
            writer.write_table(table)
            rows += table.num_rows
            frauds += int(table["TX_FRAUD"].to_numpy().sum())
            on_day()
    return Converted(len(days), rows, frauds)


def read_day(path: Path) -> pa.Table:
    """One day with the columns of SCHEMA, rows in the pickle's order. Raises InvalidFile."""
    found = read_frame(path)
    for name in SCHEMA.names:
        if name not in found:
            fail(path, f"expected a column {name!r}, got {', '.join(found)[:200]}", "convert the raw data, not another")
    # customers, terminals and counters are columns of objects in the owner's files: numbers by way of words
    words = {n: pa.array(map(str, v), pa.string()) if v.dtype == object else pa.array(v) for n, v in found.items()}
    part = Part(path, pa.table({name: words[name] for name in SCHEMA.names}), 1)
    columns = {name: part.numbers(name, np.int64) for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")}
    columns["TX_DATETIME"] = part.times("TX_DATETIME", "iso").astype("M8[ms]")
    columns["TX_AMOUNT"] = part.amounts("TX_AMOUNT")
    for name, highest in (("TX_FRAUD", 1), ("TX_FRAUD_SCENARIO", 3)):
        columns[name] = part.numbers(name, np.int64).astype(np.int8)
        part.require(name, (columns[name] >= 0) & (columns[name] <= highest), f"0 to {highest}")
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
