"""Reads the decisions of finished replays: the transactions once, and scores, alerts and reasons of each variant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline.replay.columns import SCHEMA
from panther_core.base.errors import BadInput
from panther_core.data.decision import REASONS
from panther_core.data.table import Words

MANIFEST = "replay.json"
_WORDS: tuple[str, ...] = ("user_id", "merchant_id", "category", "channel", "degraded", "fraud_kind")
_WORDS += tuple(f"reason_{i + 1}" for i in range(REASONS))
_SPEED = ("transactions", "seconds", "tps", "finished")


@dataclass(frozen=True)
class DecidedLog:
    """N decided transactions, in time order."""

    transaction_id: pa.ChunkedArray
    user: Words
    merchant: Words
    category: Words
    channel: Words
    fraud_kind: Words
    amount: NDArray[np.float64]
    time_ms: NDArray[np.int64]
    label: NDArray[np.int8]  # -1 unknown
    label_time_ms: NDArray[np.int64]  # -1 unknown
    history_len: NDArray[np.int32]
    measured: NDArray[np.bool_]  # False: before the window, where transactions only give users their past

    def __len__(self) -> int:
        return len(self.amount)


@dataclass(frozen=True)
class VariantDecisions:
    """Decisions of one variant on the transactions of the log, in the same order."""

    name: str
    scores_of: str  # name of the variant with these scores at its own threshold
    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    alert: NDArray[np.bool_]
    model_version: NDArray[np.int32]
    cold: NDArray[np.bool_]
    in_training: NDArray[np.bool_]  # the model may know the row from its training
    degraded: Words
    reasons: tuple[Words, ...]

    def at(self, threshold: float) -> VariantDecisions:
        """A variant with the same scores that alerts from another threshold on."""
        return replace(
            self,
            name=f"{self.name} at {threshold:g}",
            threshold=np.full_like(self.threshold, threshold),
            alert=self.score >= threshold,
        )

    def reasons_of(self, row: int) -> list[str]:
        """Codes of the reasons of a row, the strongest first."""
        return [code for code in (words[row] for words in self.reasons) if code]


def read_manifest(folder: Path) -> dict[str, Any]:
    """replay.json of a finished replay, without its speed and without the machine's folders. Raises BadInput."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        data, labels = found["data"], found.get("labels")
        for source in [*(data if isinstance(data, list) else [data]), labels]:
            if isinstance(source, dict) and "path" in source:
                source["path"] = Path(source["path"]).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"expected a finished replay in {folder}, cannot read {MANIFEST} ({error}): run `panther replay --out "
            f"{folder}` to its end first"
        ) from None
    return {name: value for name, value in found.items() if name not in _SPEED}


def load(folders: Sequence[Path], since_ms: int | None) -> tuple[DecidedLog, list[VariantDecisions]]:
    """The log and every variant in `folders`. Raises BadInput for no decisions,
    other columns, and folders whose transactions or labels differ."""
    log: DecidedLog | None = None
    decided: list[VariantDecisions] = []
    runs = [read_manifest(folder) for folder in folders]
    if since_ms is None:
        since_ms = max(run.get("measured_from", 0) for run in runs)
    for folder, run in zip(folders, runs, strict=True):
        seen_until = {model["version"]: model.get("seen_until", 0) for model in run.get("models", [])}
        paths = sorted(folder.glob("decisions-*.parquet"), key=lambda path: (len(path.name), path.name))
        if not paths:
            raise BadInput(f"expected decisions-*.parquet in {folder}, found none: run `panther replay --out {folder}`")
        for path in paths:
            table = _table(path)
            found = _log(table, since_ms)
            if log is not None:
                _check_same(log, found, path)
            log = log or found
            decided.append(_decided(table, _name(path, len(paths), len(folders)), seen_until))
    assert log is not None, "expected at least one folder"
    if not log.measured.any():
        raise BadInput(f"expected decisions from the first day of the report on in {folders[0]}, got none: see --since")
    return log, decided


def _name(path: Path, files: int, folders: int) -> str:
    """Name of a variant: the version, the folder or both, as far as they tell the variants apart."""
    version, folder = path.stem.removeprefix("decisions-"), path.parent.name
    return version if folders == 1 else folder if files == 1 else f"{folder} {version}"


def _table(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, read_dictionary=list(_WORDS))
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path}: expected decisions in Parquet, got {error}: replay anew") from None
    missing = sorted(set(SCHEMA.names) - set(table.column_names))
    if missing:
        raise BadInput(
            f"{path}: expected the columns of offline/replay/columns.py, lacks {', '.join(missing)}: replay anew"
        )
    time_ms = table["event_time"].to_numpy()
    if (np.diff(time_ms) < 0).any():  # the file is in order of arrival, so a late event stands after later events
        table = table.take(np.argsort(time_ms, kind="stable"))
    return table


def _log(table: pa.Table, since_ms: int | None) -> DecidedLog:
    time_ms = _numbers(table, "event_time")
    return DecidedLog(
        transaction_id=table["transaction_id"],
        user=_words(table, "user_id"),
        merchant=_words(table, "merchant_id"),
        category=_words(table, "category"),
        channel=_words(table, "channel"),
        fraud_kind=_words(table, "fraud_kind"),
        amount=_numbers(table, "amount"),
        time_ms=time_ms,
        label=_numbers(table, "label", -1),
        label_time_ms=_numbers(table, "label_time", -1),
        history_len=_numbers(table, "history_len"),
        measured=np.ones(len(time_ms), np.bool_) if since_ms is None else time_ms >= since_ms,
    )


def _decided(table: pa.Table, name: str, seen_until: dict[int, int]) -> VariantDecisions:
    version, which = np.unique(_numbers(table, "model_version"), return_inverse=True)
    until = np.array([seen_until.get(int(one), 0) for one in version], np.int64)[which]
    return VariantDecisions(
        name=name,
        scores_of=name,
        score=_numbers(table, "score"),
        threshold=_numbers(table, "threshold"),
        alert=_numbers(table, "alert"),
        model_version=_numbers(table, "model_version"),
        cold=_numbers(table, "cold_start"),
        in_training=_numbers(table, "event_time") < until,
        degraded=_words(table, "degraded"),
        reasons=tuple(_words(table, f"reason_{i + 1}") for i in range(REASONS)),
    )


def _check_same(log: DecidedLog, other: DecidedLog, path: Path) -> None:
    if not log.transaction_id.equals(other.transaction_id):
        raise BadInput(
            f"{path}: expected the {len(log)} transactions of the first decisions, got {len(other)} others: compare "
            "replays of the same data and period"
        )
    if not np.array_equal(log.label, other.label) or not np.array_equal(log.label_time_ms, other.label_time_ms):
        raise BadInput(f"{path}: expected the labels of the first decisions: give each replay the same --labels")


def _numbers(table: pa.Table, name: str, missing: int | None = None) -> NDArray[Any]:
    column = table[name]
    if missing is not None:
        column = column.fill_null(missing)
    out: NDArray[Any] = column.to_numpy()
    return out


def _words(table: pa.Table, name: str) -> Words:
    """A column of words. They are numbered alphabetically: the order in a file must not change the resamples."""
    column = table[name].unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no rows
        return Words(np.zeros(0, np.int32), ())
    words = column.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    place = np.append(np.argsort(order), -1).astype(np.int32)  # -1, not given, stays -1
    index = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Words(place[index], tuple(words[i] for i in order))
