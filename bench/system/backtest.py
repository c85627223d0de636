"""`panther backtest`: a log replayed under refresh policies, to measure what retraining would have earned.

A training at moment t sees the events before t, and the labels that had arrived, which are of events older than t minus
the label delay. A policy is a list of moments. From each moment to the next, the version trained at that moment
decides. It reads each user's whole past as encoded by itself, as in the worker, which encodes users anew when a version
goes live.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline.replay.columns import SCHEMA, decision_columns
from offline.replay.request import ReplayRequest, data_of, load_replayer, plan_of
from panther_core.artifact import MANIFEST, load_manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from trainer.fit.dataset import known_at
from trainer.fit.train_config import TrainConfig
from trainer.training import train

_CHUNK = 200_000  # transactions replayed at once
NEVER = "never"


@dataclass(frozen=True)
class BacktestPlan:
    """When to train: version 1 at `train_until_ms` with `first`, later ones every `every_ms` with `refresh`.

    `scratch`: a refresh starts from random weights instead of those of the version before.
    """

    train_until_ms: int
    every_ms: int
    label_delay_ms: int
    first: TrainConfig
    refresh: TrainConfig
    scratch: bool = False
    seed: int = 0

    @property
    def refreshing(self) -> str:
        """Name of the refreshing policy, as reports show it."""
        return f"every {self.every_ms / DAY_MS:g} days"


def run_backtest(table: TransactionTable, request: ReplayRequest, plan: BacktestPlan, out: Path) -> list[str]:
    """Write the decisions of both policies and their manifest into `out`; returns notes on refreshes that failed.

    The versions go into `request.models_dir`; versions that an interrupted run of the same plan has trained are used
    again. Raises BadInput for a finished folder, versions of another plan, too short a log, or no labels to begin with.
    """
    if (out / "replay.json").exists():
        raise BadInput(f"expected a new folder, {out} holds a finished backtest: give another --out or remove it")
    if not plan.train_until_ms < int(table.time_ms[-1]):
        raise BadInput(f"expected transactions after --train-until in {request.path}, got none: choose an earlier day")
    if not (known_at(table, plan.train_until_ms, plan.label_delay_ms).label >= 0).any():
        raise BadInput("expected labels that had arrived before the first training, got none: train later")
    _check_plan_note(table, request, plan)
    moments, notes = train_versions(table, request.models_dir, plan)
    versions = list(moments.values())
    partial = out / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    for name, in_force in ((NEVER, {plan.train_until_ms: versions[0]}), (plan.refreshing, moments)):
        say(f"  {name}: versions {', '.join(map(str, in_force.values()))}")
        with pq.ParquetWriter(partial / f"decisions-{name}.parquet", SCHEMA, compression="zstd") as writer:
            for part in decisions(table, request, in_force):
                writer.write_table(part)
    every = replace(request, models=tuple(versions))
    manifest = plan_of(every, [load_replayer(every, version) for version in versions])
    manifest |= {
        "measured_from": plan.train_until_ms,
        "policy": plan.refreshing,
        "moments": list(moments),
        "scratch": plan.scratch,
        "seed": plan.seed,
    }
    (partial / "replay.json").write_text(json.dumps(manifest | {"finished": True}, indent=1))
    for path in sorted(partial.iterdir()):  # the manifest, last in the alphabet, follows complete files
        os.replace(path, out / path.name)
    partial.rmdir()
    return notes


def _check_plan_note(table: TransactionTable, request: ReplayRequest, plan: BacktestPlan) -> None:
    """Write plan.json beside the versions, or compare it with the one there. Raises BadInput where they differ."""
    note = request.models_dir / "plan.json"
    mine: dict[str, Any] = {
        "plan": plan,
        "data": [part["sha256"] for part in data_of(request)],
        "period": [request.start, request.end],
        "transactions": len(table),
    }
    text = msgspec.json.format(msgspec.json.encode(mine), indent=1)
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(text)
    elif note.read_bytes() != text:
        raise BadInput(
            f"expected versions of this plan and data in {request.models_dir}, got those of others (plan.json there): "
            "give another --out or remove it"
        )


def train_versions(table: TransactionTable, models: Path, plan: BacktestPlan) -> tuple[dict[int, int], list[str]]:
    """Train at every moment of the plan; returns the version in force from each moment on, and notes on failures."""
    moments: dict[int, int] = {}
    notes: list[str] = []
    for moment in range(plan.train_until_ms, int(table.time_ms[-1]) + 1, plan.every_ms):
        seen, version = known_at(table, moment, plan.label_delay_ms), len(moments) + 1
        say(f"  version {version}: {len(seen):,} transactions")
        before = None if plan.scratch or not moments else models / str(version - 1)
        config = plan.refresh if moments else plan.first
        folder = models / str(version)
        if _trained(folder, seen):
            say("    trained before")
            moments[moment] = version
            continue
        try:
            train(
                seen,
                folder,
                config=config,
                version=version,
                label_delay_ms=plan.label_delay_ms,
                seed=plan.seed,
                continue_from=before,
            )
        except BadInput as error:
            if not moments:
                raise
            notes.append(f"No refresh {len(moments)} x {plan.every_ms / DAY_MS:g} days after the start: {error}")
            continue
        moments[moment] = version
    return moments, notes


def _trained(folder: Path, seen: TransactionTable) -> bool:
    """Whether an interrupted run has trained this version on exactly these events.

    A version of the same number may hold later events: when a refresh fails, the next refresh gets its number.
    """
    there = (folder / MANIFEST).exists()  # the manifest is written last, so its version is complete
    return there and load_manifest(folder).data_window[1] == int(seen.time_ms[-1])


def decisions(table: TransactionTable, request: ReplayRequest, moments: dict[int, int]) -> Iterator[pa.Table]:
    """Decisions of every transaction; the first version also decides the transactions before its moment."""
    starts = np.searchsorted(table.time_ms, [*moments, np.iinfo(np.int64).max]).tolist()
    starts[0] = 0
    for version, first, end in zip(moments.values(), starts, starts[1:], strict=False):
        replayer = load_replayer(request, version)
        for low in range(0, end, _CHUNK):
            part = table.take(slice(low, min(low + _CHUNK, end)))
            decided = replayer.decide(part)
            own = slice(max(0, first - low), None)
            if first < low + len(part):
                yield decision_columns(part.take(own), decided.take(own), request.label_delay_ms)
