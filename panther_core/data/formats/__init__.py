"""Readers of transaction files. All of them give the same kind of table, in time order, whatever the file looks like.

    for table in read("fdh", "data/fdh", start="2018-07-25", end="2018-08-01"):
        ...

Formats (described in the module of each, listed in docs/data.md): `fdh` Fraud Detection Handbook, `sparkov` Sparkov
simulator, `tabformer` IBM credit card transactions, `mbd` MBD-mini, `yelp` Yelp reviews, `csv` an own log (CSV, Parquet
or JSON lines) by a mapping file.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from importlib import import_module
from os import PathLike
from pathlib import Path

from panther_core.base.errors import BadInput, InvalidFile
from panther_core.data.formats.period import Period
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat

FORMATS = ("csv", "fdh", "sparkov", "tabformer", "mbd", "yelp")
_ALIASES = {"generic": "csv"}  # the name of `csv` in earlier releases


def format_of(format: str | None, path: str | PathLike[str]) -> str:
    """The name of a format: the one that is said, or `csv` for a mapping file or a folder with one. Raises BadInput."""
    place = Path(path)
    if format is not None:
        return _named(format)
    if place.suffix == ".toml" or any((place / name).is_file() for name in ("mapping.toml", "mapping.json")):
        return "csv"
    raise BadInput(
        f"expected --format beside {place}: one of {', '.join(FORMATS[1:])}, or csv for your own file, for which "
        f"`panther init {place}` writes a mapping"
    )


def read(
    format: str,
    path: str | PathLike[str],
    *,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    limit: int | None = None,
    batch_rows: int = 200_000,
) -> Iterator[TransactionTable]:
    """Tables of at most `batch_rows` rows, in time order within and across tables (ties in file order).

    `path` is the folder of the data set or its transaction file (`csv`: the mapping file). `start` is inclusive,
    `end` exclusive; a date means midnight UTC. `limit` is the largest number of rows, counted from `start`. Word lists
    may differ from table to table. Options are checked at once; files are opened when the first table is taken.

    Raises BadInput for a wrong option, InvalidFile (file, row, column, what to do) for a wrong file.
    """
    format = _named(format)
    if batch_rows < 1 or (limit is not None and limit < 0):
        raise BadInput(f"expected batch_rows >= 1 and limit >= 0, got batch_rows={batch_rows}, limit={limit}")
    return _limited(format, Path(path), Period.of(start, end), limit, batch_rows)


def read_table(
    format: str,
    path: str | PathLike[str],
    *,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    limit: int | None = None,
) -> TransactionTable:
    """Everything that `read` gives, as one table. Raises what `read` raises, and BadInput for no transactions."""
    return concat(list(read(format, path, start=start, end=end, limit=limit)))


def _limited(format: str, path: Path, period: Period, limit: int | None, batch_rows: int) -> Iterator[TransactionTable]:
    if not path.exists():
        raise InvalidFile(f"{path}: expected a file or folder in {format} format, found nothing: check the path")
    tables: Iterator[TransactionTable] = _module(format).tables(path, period, batch_rows)  # pyarrow is loaded here
    left = limit
    for table in tables:
        if left is not None and len(table) >= left:
            if left:
                yield table.take(slice(0, left))
            return
        if len(table):
            yield table
        left = None if left is None else left - len(table)


def profile_fields(format: str) -> tuple[ProfileField, ...]:
    """How to bucket the profile facts a format gives; empty for `csv`, whose facts are the user's own."""
    fields: tuple[ProfileField, ...] = _module(_named(format)).PROFILE
    return fields


def _named(format: str) -> str:
    found = _ALIASES.get(format, format)
    if found not in FORMATS:
        raise BadInput(f"expected format to be one of {', '.join(FORMATS)} (csv: your own file), got {format!r}")
    return found


def _module(format: str):  # type: ignore[no-untyped-def]  # a module has no useful type
    return import_module(f"panther_core.data.formats.{format}")
