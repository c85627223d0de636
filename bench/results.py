"""Finished runs of a quality benchmark as JSON lines, appended one by one, so that an interrupted table goes on.

Behind `panther bench ablation`, `transfer`, `seqrec` and `rerank`: each keeps a `runs.jsonl` in its output folder, and
a run whose key is found there is not run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from panther_core.base.errors import InvalidFile
from panther_core.data.table import TransactionTable, Words

Figures = dict[str, float]


class FinishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `runs.jsonl`; each table has a subclass with what it keeps of a run."""

    key: str
    """Names all that the run's result depends on, the code aside."""


class FiguresRun(FinishedRun, frozen=True, kw_only=True):
    """A run of which its figures are kept; `facts` say to people which run it was."""

    facts: dict[str, Any]
    figures: Figures


R = TypeVar("R", bound=FinishedRun)


class RunStore(Generic[R]):
    """The file `runs.jsonl` in `folder`, made with its first line; several processes may share it."""

    def __init__(self, folder: Path, kind: type[R]) -> None:
        """`kind`: what a line holds. Raises InvalidFile for a line that does not hold it."""
        self._path, self._kind = folder / "runs.jsonl", kind
        self._known: dict[str, R] = {}
        self._read()

    def _read(self) -> None:
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for row, line in enumerate(lines, 1):
            try:
                run = msgspec.json.decode(line, type=self._kind)
            except msgspec.DecodeError as error:
                raise InvalidFile(
                    f"{self._path}, row {row}: expected a run, got {error}: name another --out, or remove that row"
                ) from None
            self._known[run.key] = run

    def find(self, key: str) -> R | None:
        """The run of that key, if this process or another one that shares the folder has finished it."""
        if key not in self._known:
            self._read()
        return self._known.get(key)

    def add(self, run: R) -> R:
        """Append a finished run to the file, and return it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
        self._known[run.key] = run
        return run


def data_key(table: TransactionTable) -> str:
    """16 hex digits that name everything in a table."""
    digest = hashlib.sha256(msgspec.json.encode(table.profile))
    for column in (getattr(table, field.name) for field in fields(table)):
        if isinstance(column, Words):
            digest.update(msgspec.json.encode(column.words))
            column = column.index
        if isinstance(column, np.ndarray):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def key_of(*parts: Any) -> str:
    """16 hex digits that name anything msgspec can write as JSON."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def mean_sd(values: Sequence[float]) -> Figures:
    """Mean and standard deviation (of a sample; 0 for one value) as `mean` and `sd`."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def over_seeds(runs: Sequence[Figures]) -> dict[str, Figures]:
    """Mean and deviation of every figure over the runs, in four decimals."""
    return {
        name: {key: round(value, 4) for key, value in mean_sd([run[name] for run in runs]).items()} for name in runs[0]
    }
