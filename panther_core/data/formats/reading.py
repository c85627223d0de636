"""Opens CSV, Parquet and JSON-lines files and gives their columns, a part at a time. Every failure is an InvalidFile
that names the file, the row (counted from 1, without the header line), the column and the remedy.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from panther_core.base.errors import InvalidFile

CSV_BLOCK_BYTES = 4 << 20  # how much text of a file is parsed at a time
JSON_LINES = {".json", ".jsonl", ".ndjson"}


def locate(path: Path, names: Sequence[str]) -> Path:
    """`path` if it is a file, else the first of `names` in that folder (also with .gz)."""
    if path.is_file():
        return path
    for name in names:
        for candidate in (path / name, path / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise InvalidFile(
        f"{path}: expected one of {', '.join(names)} (.gz too) in this folder, found none: check the path"
    )


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. `quote`: around words, "" for none."""

    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"


PLAIN = Dialect()


def read_columns(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), dialect: Dialect = PLAIN
) -> pa.Table:
    """The named columns of a whole file, for files that fit in memory. CSV columns come as text."""
    batches = list(stream_columns(path, required, optional, dialect))
    if not batches:
        raise InvalidFile(f"{path}: expected transactions, found no row: check that the file is complete")
    return pa.Table.from_batches(batches)


def stream_columns(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), dialect: Dialect = PLAIN
) -> Iterator[pa.RecordBatch]:
    """The named columns of a CSV, Parquet or JSON-lines file (.gz too), a part at a time; empty parts are left out."""
    try:
        if ".parquet" in path.suffixes:
            batches = _parquet(path, required, optional)
        elif JSON_LINES & {*path.suffixes}:
            batches = _json(path, required, optional)
        else:
            batches = _csv(path, required, optional, dialect)
        for batch in batches:
            if batch.num_rows:
                yield batch
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, EOFError) as error:
        problem, row, place = _placed(f"{error}".splitlines()[0])
        column = None if place is None else csv_header(path, dialect)[place]
        remedy = "check that the file is complete and of the format it was said to be"
        if "UTF8" in problem:
            remedy = 'say how it is written (encoding = "latin-1" in a mapping; docs/data.md), or save it as UTF-8'
        fail(path, problem, remedy, row, column)
    except OSError as error:
        fail(path, f"{error}".splitlines()[0], "check that the file is readable and complete")


def _parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        names = _present(path, file.schema_arrow.names, required, optional)
        yield from file.iter_batches(1 << 18, columns=names)


def _json(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    table = _objects(path)
    yield from table.select(_present(path, table.schema.names, required, optional)).to_batches()


def _objects(path: Path) -> pa.Table:
    """Fields of objects within objects are named `card.id`."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # whole: a field that the first objects lack may come later
        table = pajson.read_json(file, pajson.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES))
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def header_of(path: Path, dialect: Dialect = PLAIN) -> list[str]:
    """The names of a file's columns."""
    if ".parquet" in path.suffixes:
        return list(pq.read_schema(path).names)
    return _objects(path).schema.names if JSON_LINES & {*path.suffixes} else csv_header(path, dialect)


def _placed(problem: str) -> tuple[str, int | None, int | None]:
    """Arrow's message about a CSV file without the place in it, then the row (arrow counts the header line as a row,
    this function does not) and the column, counted from 0; None where the message names no place."""
    found = re.search(r"(?:CSV parse error: |In CSV column #(\d+): )Row #(\d+): ", problem)
    if not found:
        return problem, None, None
    return problem.replace(found[0], "") or problem, int(found[2]) - 1, int(found[1]) if found[1] else None


def csv_header(path: Path, dialect: Dialect = PLAIN) -> list[str]:
    """The names in the first line, told apart where they are the same. Raises InvalidFile."""
    encoding = "utf-8-sig" if dialect.encoding.lower() in ("utf-8", "utf8") else dialect.encoding
    try:
        with pa.input_stream(path) as raw:
            line = _first_line(raw.read(1 << 16), encoding)
        if dialect.quote:
            rows = csv.reader([line], delimiter=dialect.separator, quotechar=dialect.quote)
        else:
            rows = csv.reader([line], delimiter=dialect.separator, quoting=csv.QUOTE_NONE)
        names = next(rows, [])
    except OSError as error:
        fail(path, f"{error}".splitlines()[0], "check that the file is readable and complete")
    except (UnicodeError, LookupError, csv.Error) as error:
        fail(
            path,
            f"expected a header line of {dialect.encoding.upper()} text, got {error}",
            'say how it is written (encoding = "latin-1" in a mapping), or save it as UTF-8, lines ending in \\n',
        )
    if not names:
        fail(path, "expected a header line, got none", "check that the file is complete")
    return _told_apart(names)


def _first_line(start: bytes, encoding: str) -> str:
    """Of a file's first bytes, which may end within a character."""
    wide = encoding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32"))
    line = start[: len(start) // 4 * 4] if wide else start.split(b"\n")[0]
    return line.decode(encoding).split("\n")[0].strip("\r")


def _told_apart(names: list[str]) -> list[str]:
    """Columns that share a name are `NAME#1`, `NAME#2` and so on."""
    return [name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _csv(path: Path, required: Sequence[str], optional: Sequence[str], dialect: Dialect) -> Iterator[pa.RecordBatch]:
    header = csv_header(path, dialect)
    names = _present(path, header, required, optional)
    # every column is read as text, since the conversions of `Part` can say which row is wrong and arrow's cannot
    convert = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in names}, include_columns=names, strings_can_be_null=False
    )
    options = pacsv.ReadOptions(  # one thread: errors carry row numbers
        use_threads=False,
        block_size=CSV_BLOCK_BYTES,
        encoding=dialect.encoding,
        column_names=header,
        skip_rows=1,
    )
    parse = pacsv.ParseOptions(delimiter=dialect.separator, quote_char=dialect.quote or False)
    with pa.input_stream(path) as raw, pacsv.open_csv(raw, options, parse, convert) as reader:
        yield from reader


def _present(path: Path, found: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    for name in (*required, *optional):
        if f"{name}#1" in found:
            same = [other for other in found if other.startswith(f"{name}#")]
            fail(path, f"expected one such column, got {len(same)}", f"name one of {', '.join(same)}", None, name)
    for name in required:
        if name not in found:
            got = ", ".join(found)[:300]
            signs = [sign for sign in (";", "\t", "|", ",") if len(found) == 1 and sign in found[0]]
            remedy = f"say which sign separates columns: separator = {signs[0]!r}" if signs else "check the names"
            raise InvalidFile(
                f"{path}: expected a column {name!r}, got the columns {got}: {remedy}, or the format (docs/data.md)"
            )
    return list(dict.fromkeys([*required, *(name for name in optional if name in found)]))


def fail(path: Path, problem: str, remedy: str, row: int | None = None, column: str | None = None) -> NoReturn:
    """Raise InvalidFile with the place in front."""
    place = (f", row {row}" if row is not None else "") + (f", column {column!r}" if column else "")
    raise InvalidFile(f"{path}{place}: {problem}: {remedy}")
