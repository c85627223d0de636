"""Finished runs of a benchmark as JSON lines, appended one by one, so that an interrupted table goes on."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from panther_core.base.errors import InvalidFile
from panther_core.data.table import TransactionTable, Words

Figures = dict[str, float]


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: `key` names all that its figures depend on, the code aside; `facts` say so to people."""

    key: str
    facts: dict[str, Any]
    figures: Figures


class RunLines:
    """The file `path`, made with its first line."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidFile for a line that is not a RunLine."""
        self._path, self._known = path, dict[str, Figures]()
        for row, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
            try:
                run = msgspec.json.decode(line, type=RunLine)
            except msgspec.DecodeError as error:
                raise InvalidFile(
                    f"{path}, row {row}: expected a run, got {error}: name another --out, or remove that row"
                ) from None
            self._known[run.key] = run.figures

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Figures:
        """Figures of a run that is done."""
        return self._known[key]

    def add(self, key: str, facts: dict[str, Any], figures: Figures) -> None:
        """Append it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(RunLine(key=key, facts=facts, figures=figures)) + b"\n")
        self._known[key] = figures


def data_key(table: TransactionTable) -> str:
    """16 hex digits of everything in a table."""
    digest = hashlib.sha256(msgspec.json.encode(table.profile))
    for column in (getattr(table, field.name) for field in fields(table)):
        if isinstance(column, Words):
            digest.update(msgspec.json.encode(column.words))
            column = column.index
        if isinstance(column, np.ndarray):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def key_of(*parts: Any) -> str:
    """16 hex digits of anything msgspec can write as JSON."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def over_seeds(runs: list[Figures]) -> dict[str, dict[str, float]]:
    """Mean and deviation (of a sample; 0 for one run) of every figure."""
    out = {}
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        out[name] = {"mean": round(float(values.mean()), 4), "sd": round(deviation, 4)}
    return out
