"""Runs of a table on disk: one JSON line each, appended when a run ends, so that an interrupted table goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from bench.sequences.sequence_config import SequenceConfig
from bench.sequences.train import Run
from panther_core.base.errors import InvalidFile
from panther_core.data.formats.sequences import Sequences


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run."""

    set: str
    model: str
    seed: int
    key: str
    """Of data, config and seed: what `Results.find` goes by."""
    config: SequenceConfig
    run: Run


class Results:
    """The file `runs.jsonl` in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises InvalidFile when a line of it is not a record of this code version."""
        self._path = folder / "runs.jsonl"
        self._records: dict[str, Record] = {}
        self._read()

    def _read(self) -> None:
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for row, line in enumerate(lines, 1):
            try:
                record = msgspec.json.decode(line, type=Record)
            except msgspec.DecodeError as error:
                raise InvalidFile(
                    f"{self._path}, row {row}: expected a run, got {error}: name another --out, or remove that row"
                ) from None
            self._records[record.key] = record

    def find(self, key: str) -> Record | None:
        """The run of that key, if it is done: by this process, or by another one that shares the folder."""
        if key not in self._records:
            self._read()
        return self._records.get(key)

    def add(self, record: Record) -> None:
        """Append it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
        self._records[record.key] = record


def run_key(sequences: Sequences, config: SequenceConfig, seed: int) -> str:
    """Names a run by all that its result depends on, the code aside."""
    digest = hashlib.sha256(msgspec.json.encode((config, seed)))
    digest.update(sequences.items.tobytes() + sequences.bounds.tobytes())
    return digest.hexdigest()[:16]


def summary(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Test metrics over seeds: mean and standard deviation (of a sample; 0 for one seed)."""
    out = {}
    for name in records[0].run.test:
        values = np.array([record.run.test[name] for record in records])
        out[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
    return out
