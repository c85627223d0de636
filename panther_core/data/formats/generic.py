"""Any CSV or Parquet file, by a small mapping file (TOML or JSON) that says which column is what.

    data = "payments.csv"            # beside the mapping; .csv, .csv.gz or .parquet
    separator = ","                  # between the columns of a CSV file; ";", "|", "\\t" for a tab
    sorted = false                   # true: the file is in time order and is streamed, never held whole
    time = "iso"                     # or "s", "ms" since 1970
    negative = "error"               # or "absolute": a refund counts with its size
    fraud = ["1", "true", "yes"]     # words of the label column that mean fraud ...
    honest = ["0", "false", "no"]    # ... and not; an empty label is unknown, anything else an error

    [columns]                        # required: user_id, merchant_id, amount, event_time
    transaction_id = "id"            # not given: "r" + row number
    user_id = "customer"
    merchant_id = "shop"
    amount = "eur"
    event_time = "when"
    label = "is_fraud"

    [constants]                      # for every row, in place of a column
    currency = "EUR"

    [profile]                        # facts of the user; the first row that names the user counts
    age = "customer_age"

`read("generic", path)`: the mapping file, or a folder with `mapping.toml` or `mapping.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part, fail, least, locate, none_given, read_columns, same, stream_columns
from panther_core.data.formats.period import Period
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words

PROFILE: tuple[ProfileField, ...] = ()


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Column of the file for each field of a transaction."""

    user_id: str
    merchant_id: str
    amount: str
    event_time: str
    transaction_id: str | None = None
    merchant_category: str | None = None
    currency: str | None = None
    channel: str | None = None
    country: str | None = None
    device: str | None = None
    label: str | None = None
    fraud_kind: str | None = None


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that hold for every row."""

    merchant_category: str | None = None
    currency: str | None = None
    channel: str | None = None
    country: str | None = None


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping file; its fields are documented at the top of this module."""

    data: str
    columns: Columns
    constants: Constants = Constants()
    profile: dict[str, str] = {}
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    sorted: bool = False
    time: Literal["iso", "s", "ms"] = "iso"
    negative: Literal["error", "absolute"] = "error"
    fraud: tuple[str, ...] = ("1", "true", "yes")
    honest: tuple[str, ...] = ("0", "false", "no")


def load_mapping(path: Path) -> tuple[Mapping, Path]:
    """The mapping and its file. Raises InvalidFile."""
    file = locate(path, ("mapping.toml", "mapping.json"))
    decode = msgspec.json.decode if file.suffix == ".json" else msgspec.toml.decode
    if file.suffix not in (".json", ".toml"):
        fail(file, "expected a mapping file (.toml or .json), not the data itself", "write one: see formats/generic.py")
    try:
        return decode(file.read_bytes(), type=Mapping), file
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(
            f"{file}: {error}: correct the mapping (fields: panther_core/data/formats/generic.py)"
        ) from None


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    mapping, file = load_mapping(path)
    data = file.parent / mapping.data
    if not data.is_file():
        fail(file, f"expected the data file {mapping.data!r} beside the mapping, found none", "correct `data`")
    required = [name for name in msgspec.structs.astuple(mapping.columns) if name] + list(mapping.profile.values())
    if not mapping.sorted:
        table = _table(mapping, Part(data, read_columns(data, required, separator=mapping.separator), 1))
        yield from period.parts(table, batch_rows)
        return
    first_row, last_ms = 1, -(2**62)
    for batch in stream_columns(data, required, separator=mapping.separator):
        table = _table(mapping, Part(data, batch, first_row))
        last_ms = _check_order(data, table.time_ms, last_ms, first_row, mapping.columns.event_time)
        first_row += len(table)
        yield from period.parts(table, batch_rows)
        if last_ms >= period.end_ms:
            return


def _check_order(file: Path, time_ms: NDArray[np.int64], last_ms: int, first_row: int, column: str) -> int:
    """The time of the last row. Raises InvalidFile if a row is older than the row before it."""
    back = np.flatnonzero(np.diff(time_ms, prepend=last_ms) < 0)
    if len(back):
        row = first_row + int(back[0])
        fail(
            file,
            "expected rows in time order, this one is older than the one before",
            "sort the file or set sorted = false",
            row,
            column,
        )
    return int(time_ms[-1])


def _table(mapping: Mapping, part: Part) -> TransactionTable:
    columns, rows = mapping.columns, len(part)

    def words(name: str) -> Words | None:
        column, constant = getattr(columns, name), getattr(mapping.constants, name, None)
        return part.words(column) if column else same(constant, rows) if constant else None

    user = part.words(columns.user_id, required=True)
    absolute = mapping.negative == "absolute"
    label = part.labels(columns.label, mapping.fraud, mapping.honest) if columns.label else np.full(rows, -1, np.int8)
    return TransactionTable(
        transaction_id=_ids(part, columns.transaction_id),
        user=user,
        merchant=part.words(columns.merchant_id, required=True),
        category=words("merchant_category") or none_given(rows),
        channel=words("channel") or none_given(rows),
        currency=words("currency") or none_given(rows),
        amount=np.abs(part.amounts(columns.amount, negative=absolute)),
        time_ms=part.times(columns.event_time, mapping.time),
        label=label,
        country=words("country"),
        device=words("device"),
        fraud_kind=words("fraud_kind"),
        profile=_facts(part, user, mapping.profile),
    )


def _ids(part: Part, column: str | None) -> NDArray[np.str_]:
    if column is None:
        return np.char.add("r", np.arange(part.first_row, part.first_row + len(part)).astype(np.str_))
    text = part.text(column)
    given = np.array([bool(word) for word in text.to_pylist()])
    part.require(column, given, "a transaction id")
    return np.asarray(text.to_pylist(), np.str_)


def _facts(part: Part, user: Words, profile: dict[str, str]) -> dict[str, list[Any]]:
    """Facts of each user word, from the user's first row. Text that reads as a number stays text: buckets parse it."""
    first = least(user, np.arange(len(part)))
    return {name: part.array(column).take(pa.array(first)).to_pylist() for name, column in profile.items()}
