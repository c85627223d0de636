"""Labels out of a file of their own: Parquet or CSV with `transaction_id` and `label` (1 fraud, 0 not)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part
from panther_core.data.formats.reading import read_columns
from panther_core.data.table import TransactionTable, hash_words


@dataclass(frozen=True)
class Labels:
    """Known labels by transaction id, at 9 bytes a label."""

    transaction: NDArray[np.uint64]  # hashes, ascending
    label: NDArray[np.int8]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Read a file. Raises InvalidFile: no such file, a column missing, a value that is no label."""
        if not path.is_file():
            raise InvalidFile(f"{path}: expected a CSV or Parquet file of labels, found none: check --labels")
        part = Part(path, read_columns(path, ("transaction_id", "label")), 1)
        label = part.labels("label")
        transaction = hash_words(part.text("transaction_id").cast(pa.string()).to_pylist())
        order = np.argsort(transaction, kind="stable")
        return cls(transaction[order], label[order])

    def put(self, table: TransactionTable) -> TransactionTable:
        """The table with its labels replaced by these; -1 where none is known."""
        if not len(self.transaction):
            return replace(table, label=np.full(len(table), -1, np.int8))
        transaction = hash_words(table.transaction_id.tolist())
        at = np.minimum(np.searchsorted(self.transaction, transaction), len(self.transaction) - 1)
        return replace(table, label=np.where(self.transaction[at] == transaction, self.label[at], -1).astype(np.int8))
