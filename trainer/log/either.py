"""A log of either kind: Parquet files with a catalogue, or Delta Lake tables."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from panther_core.base.errors import BadInput
from trainer.log.store import CATALOGUE, LogStore, Row


class Log(Protocol):
    """A log in a folder: LogStore, or trainer.log.delta.DeltaLog."""

    folder: Path

    def rows(self, topic: str) -> int: ...

    def rows_by_date(self, topic: str) -> dict[str, int]: ...

    def next_offset(self, topic: str, partition: int) -> int: ...

    def last_hash(self, topic: str, partition: int) -> str | None: ...

    def writing(self, topic: str, partition: int) -> AbstractContextManager[None]: ...

    def write(
        self, topic: str, partition: int, rows: Sequence[Row], first: int, last: int, schema: pa.Schema
    ) -> object: ...

    def compact(self, topic: str, partition: int, rows: int) -> int: ...

    def dataset(self, topic: str, since: str = "", until: str = "9999") -> ds.Dataset: ...


def open_log(folder: Path, delta: bool = False) -> Log:
    """The log in a folder; of Delta Lake tables where it is one, or where there is none yet and `delta` is asked for.

    Raises BadInput where the package deltalake is needed and is not installed, and for a folder of files where `delta`
    is asked for.
    """
    is_delta = any(folder.glob("*/_delta_log"))
    if delta and not is_delta and (folder / CATALOGUE).exists():
        raise BadInput(f"expected a new folder for Delta Lake tables, got {folder}, which holds files: name another")
    if not (delta or is_delta):
        return LogStore(folder)
    try:
        from trainer.log.delta import DeltaLog
    except ImportError:
        raise BadInput(
            f"expected the package deltalake for the tables in {folder}, found none: install panther-stream[delta]"
        ) from None
    return DeltaLog(folder)
