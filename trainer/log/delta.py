"""The log as Delta Lake tables, for those whose other tools read these: one table a topic, partitioned by date.

A batch is one commit, which names its partition of the topic and its last offset as the transaction's application and
version (https://github.com/delta-io/delta/blob/master/PROTOCOL.md, "Transaction Identifiers"). So rows and the place
where they end are written together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from panther_core.base.errors import BadInput
from trainer.log.store import Row, hash_of, one_writer

_SMALL_FILES = 64  # of a table, from which on they are joined


class DeltaLog:
    """As trainer.log.store.LogStore, in Delta Lake tables below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, topic: str) -> int:
        """How many records of a topic are here."""
        table = self._table(topic)
        return 0 if table is None else int(table.count())

    def rows_by_date(self, topic: str) -> dict[str, int]:
        """How many records of a topic lie under each date, by what the table's log says."""
        out: dict[str, int] = {}
        table = self._table(topic)
        files = [] if table is None else pa.table(table.get_add_actions(flatten=True)).to_pylist()
        for file in files:
            date = file["partition.date"]
            out[date] = out.get(date, 0) + file["num_records"]
        return out

    def next_offset(self, topic: str, partition: int) -> int:
        """From which offset on nothing is here."""
        table = self._table(topic)
        last = None if table is None else table.transaction_version(_writer(topic, partition))
        return 0 if last is None else last + 1

    def last_hash(self, topic: str, partition: int) -> str | None:
        """`hash_of` the last record of a partition, None where there is none."""
        place = (pc.field("partition") == partition) & (pc.field("offset") == self.next_offset(topic, partition) - 1)
        if self._table(topic) is None:
            return None
        found = self.dataset(topic).to_table(columns=["value"], filter=place)
        return hash_of(found["value"][0].as_py()) if found.num_rows else None

    def writing(self, topic: str, partition: int) -> AbstractContextManager[None]:
        """One writer a partition: raises BadInput while another one has it."""
        return one_writer(self.folder, topic, partition)

    def write(self, topic: str, partition: int, rows: Sequence[Row], first: int, last: int, schema: pa.Schema) -> None:
        """Add a batch that holds everything at the offsets `first` to `last`, as one commit.

        One that is here already is not added again: whoever wrote it may have been cancelled before it heard.
        """
        if self.next_offset(topic, partition) > last:
            return
        dated = schema.append(pa.field("date", pa.string()))
        DeltaTable.create(self.folder / topic, dated, mode="ignore", partition_by=["date"])
        content = [
            {"partition": partition, "offset": row.offset, "value": row.value, "date": row.date, **row.columns}
            for row in rows
        ]
        commit = CommitProperties(app_transactions=[Transaction(_writer(topic, partition), last)])
        batch = pa.Table.from_pylist(content, dated)
        write_deltalake(self.folder / topic, batch, mode="append", partition_by=["date"], commit_properties=commit)

    def compact(self, topic: str, partition: int, rows: int) -> int:
        """Join small files once there are many; returns how many went. What they were stays for a week, for readers."""
        table = self._table(topic)
        if partition or table is None or len(table.file_uris()) < _SMALL_FILES * max(1, len(table.partitions())):
            return 0
        done = table.optimize.compact()
        table.vacuum(dry_run=False)
        return int(done["numFilesRemoved"]) - int(done["numFilesAdded"])

    def dataset(self, topic: str, since: str = "", until: str = "9999") -> ds.Dataset:
        """What is here of a topic from date `since` to before `until`, to be read lazily.

        Raises BadInput where there is nothing.
        """
        table = self._table(topic)
        if table is None or not any(since <= part["date"] < until for part in table.partitions()):
            raise BadInput(f"expected files of {topic} in {self.folder}, found none: `panther ingest {self.folder}`")
        # an empty word stands for null in a partition's name, and nothing is above null
        return table.to_pyarrow_dataset(file_pruning_predicate=[("date", ">=", since or "0"), ("date", "<", until)])

    def _table(self, topic: str) -> DeltaTable | None:
        place = self.folder / topic
        return DeltaTable(place) if DeltaTable.is_deltatable(str(place)) else None


def _writer(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"
