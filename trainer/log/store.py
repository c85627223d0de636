"""Records of a topic in Parquet files by event date, and the catalogue of what is there.

    LOG/transactions/date=2026-11-27/transactions-3-00000000000000001000-00000000000000001999.parquet
    LOG/catalogue/transactions-3-00000000000000001000-00000000000000001999.json

A file is named by topic, partition, first and last offset of the batch that it is of; a batch has a file for each date,
and one entry in the catalogue, which is written last. A file without an entry is of a write that was cut off: it counts
for nothing, and is removed before the partition is written again. Of two entries the one whose offsets contain those of
the other counts: so files are compacted without a moment in which a record is there twice, or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from panther_core.base.errors import BadInput, PantherError
from panther_core.base.files import locked, written_whole

CATALOGUE, _LOCKS = "catalogue", "locks"
_RUN = 8  # batches that are joined at least: a row is written some times, not once for every batch
NO_DATE = "0000-00-00"  # of a record that is none, or has no time


class LogBroken(PantherError):
    """The files are not those of the topic that is there: offsets went backwards, or another record stands at one."""


class Entry(msgspec.Struct, frozen=True):
    """A batch of one partition: offsets, rows, files (below the folder of the log), and the hash of the last record."""

    topic: str
    partition: int
    first: int
    last: int
    rows: int
    files: list[str]
    last_hash: str

    @property
    def name(self) -> str:
        """Of its files and of itself."""
        return f"{self.topic}-{self.partition}-{self.first:020}-{self.last:020}"


class Row(NamedTuple):
    """One record: its place, the date it is filed under, and its columns."""

    offset: int
    date: str
    value: bytes | None
    columns: dict[str, Any]


def hash_of(value: bytes | None) -> str:
    """Of a record's value."""
    return hashlib.sha256(value or b"").hexdigest()[:16]


def date_of(time_ms: int | None) -> str:
    """The UTC date of an epoch time."""
    return NO_DATE if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"


def _date(file: str) -> str:
    return Path(file).parent.name.removeprefix("date=")


def one_writer(folder: Path, topic: str, partition: int) -> AbstractContextManager[None]:
    """Hold the lock of a partition of a log. Raises BadInput while another process holds it."""
    taken = f"expected no other writer of {topic} {partition} in {folder}, found one: end it first"
    return locked(folder / _LOCKS / f"{topic}-{partition}", taken)


class LogStore:
    """The log in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, topic: str, partition: int | None = None) -> list[Entry]:
        """The entries that count, by partition and offset. Raises LogBroken for one that cannot be read."""
        found = [entry for entry in self._listed(topic) if partition in (None, entry.partition)]
        found.sort(key=lambda entry: (entry.partition, entry.first, -entry.last))
        out: list[Entry] = []
        for entry in found:
            before = out[-1] if out and out[-1].partition == entry.partition else None
            if before is None or entry.first > before.last:
                out.append(entry)
            elif entry.last > before.last:
                raise LogBroken(
                    f"{self.folder}: expected batches that do not overlap, got {before.name} and {entry.name}"
                )
        return out

    def _listed(self, topic: str) -> list[Entry]:
        """Every entry of a topic. One that goes while they are read has been joined, into one that may not be among
        those that were listed: then they are listed anew."""
        while True:
            found = []
            for path in sorted((self.folder / CATALOGUE).glob(f"{topic}-*.json")):
                try:
                    found.append(msgspec.json.decode(path.read_bytes(), type=Entry))
                except FileNotFoundError:
                    break
                except (msgspec.DecodeError, OSError) as error:
                    raise LogBroken(
                        f"{path}: expected an entry of the catalogue: {error}: restore it, or the log"
                    ) from None
            else:
                return [entry for entry in found if entry.topic == topic]

    def next_offset(self, topic: str, partition: int) -> int:
        """From which offset on nothing is here."""
        return max((entry.last + 1 for entry in self.entries(topic, partition)), default=0)

    def last_hash(self, topic: str, partition: int) -> str | None:
        """`hash_of` the last record of a partition, None where there is none."""
        entries = self.entries(topic, partition)
        return entries[-1].last_hash if entries else None

    def rows(self, topic: str) -> int:
        """How many records of a topic are here."""
        return sum(entry.rows for entry in self.entries(topic))

    def rows_by_date(self, topic: str) -> dict[str, int]:
        """How many records of a topic lie under each date, by what the files say at their ends."""
        out: dict[str, int] = {}
        for entry in self.entries(topic):
            for file in entry.files:
                rows = pq.read_metadata(self.folder / file).num_rows
                out[_date(file)] = out.get(_date(file), 0) + rows
        return out

    @contextmanager
    def writing(self, topic: str, partition: int) -> Iterator[None]:
        """One writer a partition: raises BadInput while another one has it. Removes what a cut-off write has left."""
        with one_writer(self.folder, topic, partition):
            counted = {file for entry in self.entries(topic, partition) for file in entry.files}
            self._forget_joined(topic, partition)
            for pattern in (f"{topic}-{partition}-*", f".{topic}-{partition}-*"):
                for file in (self.folder / topic).glob(f"date=*/{pattern}"):
                    if str(file.relative_to(self.folder)) not in counted:
                        file.unlink()
            yield

    def write(self, topic: str, partition: int, rows: Sequence[Row], first: int, last: int, schema: pa.Schema) -> Entry:
        """Add a batch that holds everything at these offsets: files first, then the entry. `rows` may lack offsets that
        hold no record."""
        by_date: dict[str, list[Row]] = {}
        for row in rows:
            by_date.setdefault(row.date, []).append(row)
        tables = {
            date: pa.Table.from_pylist(
                [{"partition": partition, "offset": row.offset, "value": row.value, **row.columns} for row in own],
                schema,
            )
            for date, own in by_date.items()
        }
        newest = max(rows, key=lambda row: row.offset, default=None)
        return self._add(topic, partition, tables, first, last, hash_of(newest.value if newest else None))

    def compact(self, topic: str, partition: int, rows: int) -> int:
        """Join runs of _RUN and more batches that have at most `rows` rows together; returns how many batches went.

        A batch with more rows than those behind it waits: joined with a few new rows each time, it would be written
        hundreds of times before it is large.
        """
        gone, run = 0, list[Entry]()
        for entry in [*self.entries(topic, partition), None]:
            if entry is not None and sum(part.rows for part in run) + entry.rows <= rows:
                run.append(entry)
                continue
            while run and run[0].rows > sum(part.rows for part in run[1:]):
                run = run[1:]
            if len(run) >= _RUN:
                self._forget_joined(topic, partition)
                self._join(run)
                gone += len(run) - 1
            run = [entry] if entry is not None else []
        return gone

    def _join(self, run: Sequence[Entry]) -> None:
        parts: dict[str, list[pa.Table]] = {}
        for entry in run:
            for file in entry.files:
                parts.setdefault(_date(file), []).append(pq.read_table(self.folder / file, partitioning=None))
        tables = {date: pa.concat_tables(tables) for date, tables in parts.items()}
        first, last = run[0], run[-1]
        self._add(first.topic, first.partition, tables, first.first, last.last, last.last_hash)

    def _forget_joined(self, topic: str, partition: int) -> None:
        """Remove batches that are contained in a joined one.

        Not when they are joined, but before the next time: whoever has listed them reads them to the end.
        """
        counted = {entry.name for entry in self.entries(topic, partition)}
        for path in (self.folder / CATALOGUE).glob(f"{topic}-{partition}-*.json"):
            if path.stem not in counted:
                files = msgspec.json.decode(path.read_bytes(), type=Entry).files
                path.unlink()
                for file in files:
                    (self.folder / file).unlink(missing_ok=True)

    def _add(
        self, topic: str, partition: int, tables: dict[str, pa.Table], first: int, last: int, last_hash: str
    ) -> Entry:
        rows = sum(table.num_rows for table in tables.values())
        entry = Entry(topic, partition, first, last, rows, [], last_hash)
        for date, table in sorted(tables.items()):
            file = f"{topic}/date={date}/{entry.name}.parquet"
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.folder / file) as part:
                pq.write_table(table, part, compression="zstd")
            entry.files.append(file)
        (self.folder / CATALOGUE).mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / CATALOGUE / f"{entry.name}.json") as part:
            part.write_bytes(msgspec.json.encode(entry))
        return entry

    def dataset(self, topic: str, since: str = "", until: str = "9999") -> ds.Dataset:
        """What is here of a topic from date `since` to before `until`, to be read lazily (also by Polars and DuckDB).

        Raises BadInput where there is nothing.
        """
        entries = self.entries(topic)
        wanted = [str(self.folder / file) for entry in entries for file in entry.files if since <= _date(file) < until]
        if not wanted:
            raise BadInput(f"expected files of {topic} in {self.folder}, found none: `panther ingest {self.folder}`")
        return ds.dataset(wanted, format="parquet")
