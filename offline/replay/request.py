"""`panther replay`: what to replay, and the pass of a data set through its model versions, to figures and files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from offline.replay.columns import decision_columns
from offline.replay.labels import Labels
from offline.replay.measure import day_ms, measure_columns, measure_file
from offline.replay.merchant_alerts import MerchantAlerts
from offline.replay.output import Output
from offline.replay.replayer import Replayed, Replayer
from offline.replay.topic import TopicLog
from panther_core.artifact import MANIFEST, load_manifest, sha256
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.decision import ALERT
from panther_core.data.formats import read
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.report.words import minute
from panther_core.serving_model import load_serving_model


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay.

    `speed`: event time over real time, 0 = as fast as possible. `threshold`: of all models, in place of their own.
    `log`: a topic as it was read, in place of files; `path` is then the topic's name. `since`: first day measured,
    YYYY-MM-DD; if none, what lies after the training of every model (`measured_from`).
    """

    path: Path
    format: str
    models: tuple[int, ...]
    models_dir: Path
    start: str | None = None
    end: str | None = None
    limit: int | None = None
    speed: float = 0
    label_delay_ms: int = 7 * DAY_MS
    threshold: float | None = None
    labels: Path | None = None
    since: str | None = None
    chunk_rows: int = 200_000
    log: TopicLog | None = None

    @property
    def measured_from(self) -> int:
        """Event time (ms) from which on decisions are measured. Raises BadInput for a wrong day, ArtifactError."""
        if self.since is not None:
            return day_ms(self.since)
        return max(load_manifest(self.models_dir / str(model)).seen_until for model in self.models)

    def chunks(self) -> Iterator[TransactionTable]:
        """The transactions; with a `speed`, those of one second of real time at once. Raises BadInput, InvalidFile."""
        last_ms, rows = 0, 0
        for table in self._batches():
            if not len(table):
                continue
            back = np.flatnonzero(np.diff(table.time_ms, prepend=last_ms) < 0)
            if len(back) and self.log is None:  # a topic may hold late events, and the stream decides those too
                raise BadInput(
                    f"{self.path}: expected rows in event-time order, got transaction "
                    f"{table.transaction_id[back[0]]} (the {rows + back[0] + 1}th read) earlier than the one before: "
                    "sort the file by time"
                )
            last_ms, rows = int(table.time_ms[-1]), rows + len(table)
            if not self.speed:
                yield table
                continue
            seconds = table.time_ms // round(1000 * self.speed)
            for part in np.split(np.arange(len(table)), np.flatnonzero(np.diff(seconds)) + 1):
                yield table.take(part)

    def _batches(self) -> Iterator[TransactionTable]:
        if self.log is None:
            return read(
                self.format, self.path, start=self.start, end=self.end, limit=self.limit, batch_rows=self.chunk_rows
            )
        table = self.log.table.take(slice(0, self.limit))
        return (table.take(slice(low, low + self.chunk_rows)) for low in range(0, len(table), self.chunk_rows))


def load_replayer(request: ReplayRequest, model: int) -> Replayer:
    """A replayer of one version, with the request's threshold, that knows no user yet. Raises as `replayer_of`."""
    return replayer_of(request.models_dir, model, request.threshold, request.label_delay_ms)


def replayer_of(
    models_dir: Path, model: int, threshold: float | None = None, label_delay_ms: int = 7 * DAY_MS
) -> Replayer:
    """A replayer of one version that knows no user yet. Raises BadInput: no such version; ArtifactError."""
    folder = models_dir / str(model)
    if not folder.is_dir():
        there = sorted(int(path.name) for path in models_dir.glob("*") if path.name.isdigit())
        raise BadInput(
            f"expected a model version out of {there or 'none'} in {models_dir}, got {model}: check --model and "
            "PANTHER_MODELS_DIR"
        )
    serving = load_serving_model(folder)
    if threshold is not None:
        serving = replace(serving, live=replace(serving.live, threshold=threshold))
    return Replayer(serving, PantherModel.load(folder), label_delay_ms=label_delay_ms)


def run_replay(request: ReplayRequest, out: Path | None, progress: Callable[[int], None]) -> dict[str, Any]:
    """Replay, write below `out` if given, and measure. `progress` gets the rows done so far."""
    if len(set(request.models)) != len(request.models):
        raise BadInput(f"expected different model versions, got {list(request.models)}: give each once")
    labels = Labels.read(request.labels) if request.labels else None
    replayers = [load_replayer(request, model) for model in request.models]
    plan = plan_of(request, replayers)
    measured_from = request.measured_from
    output = Output(out, plan, replayers) if out else None
    done = output.chunks if output else 0
    merchants, merchant_alerts = MerchantAlerts(request.label_delay_ms), [0] * len(replayers)
    kept: list[list[tuple[np.ndarray[Any, Any], ...]]] = [[] for _ in replayers]
    rows, fresh, started, event_ms = 0, 0, time.perf_counter(), 0
    for number, table in enumerate(request.chunks()):
        rows += len(table)
        table = labels.put(table) if labels else table  # decisions know labels as they arrive, by their merchants
        merchants.note(table)
        if number < done:  # the run that was killed has written this chunk
            continue
        event_ms = event_ms or int(table.time_ms[0])
        if request.speed:
            due = (int(table.time_ms[0]) - event_ms) / 1000 / request.speed
            time.sleep(max(0.0, due - (time.perf_counter() - started)))
        replayed = [replayer.decide(table) for replayer in replayers]
        alerts = [
            [*merchants.of(part.looks, replayer.serving.merchant_threshold)]
            for replayer, part in zip(replayers, replayed, strict=True)
        ]
        merchant_alerts = [count + len(own) for count, own in zip(merchant_alerts, alerts, strict=True)]
        if output:
            output.add([decision_columns(table, part, request.label_delay_ms) for part in replayed], alerts)
        else:
            for held, part in zip(kept, replayed, strict=True):
                held.append(_to_measure(table, part))
        fresh += len(table)
        progress(rows)
    if not rows:
        raise BadInput(f"{request.path}: expected transactions, got none: check the path and the first and last day")
    seconds = time.perf_counter() - started
    figures = {"transactions": rows, "seconds": round(seconds, 2), "tps": round(fresh / seconds)}
    if output:
        files = output.finish(plan | figures | {"measured_from": measured_from, "finished": True})
        measured = [measure_file(path, measured_from) for path in files]
        merchant_alerts = output.merchant_alerts
    else:
        columns = ([np.concatenate(part) for part in zip(*held, strict=True)] for held in kept)
        measured = [measure_columns(measured_from, *part) for part in columns]
    profile: dict[str, float] = {}
    for replayer in replayers:
        for step, value in replayer.seconds.items():
            profile[step] = round(profile.get(step, 0) + value, 2)
    profile["read_and_write"] = round(seconds - sum(profile.values()), 2)
    models = [
        {"model": model, "merchant_alerts": count} | part
        for model, count, part in zip(request.models, merchant_alerts, measured, strict=True)
    ]
    window = window_of(request, measured_from, measured)
    return figures | {"profile": profile, **window, "models": models}


def window_of(request: ReplayRequest, measured_from: int, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """What the figures are of, and what they leave out. Says loudly where they are no test of a model."""
    for model in request.models:
        seen_until = load_manifest(request.models_dir / str(model)).seen_until
        if measured_from < seen_until:
            say(
                f"model {model} was trained on transactions up to {minute(seen_until)}, and the figures begin at "
                f"{minute(measured_from)}: they say how well it remembers them, not what it is worth on days to come"
            )
    if not any(part["transactions"] for part in measured):
        say(
            f"nothing was measured: the models were trained on transactions up to {minute(measured_from)}, and these "
            "are none later; replay later days, or give --since DAY to measure days of the training too"
        )
    return {"measured_from": minute(measured_from), "not_measured": measured[0]["not_measured"]}


def plan_of(request: ReplayRequest, replayers: list[Replayer]) -> dict[str, Any]:
    """Everything that the result depends on, as JSON: version of the code, checksums of data and models, options."""
    try:
        code = version("panther-stream")
    except PackageNotFoundError:  # a checkout that is not installed
        code = "unknown"
    return {
        "code_version": code,
        "data": data_of(request),
        "format": request.format,
        "period": [request.start, request.end],
        "limit": request.limit,
        "labels": request.labels and {"path": str(request.labels), "sha256": _digest(request.labels)},
        "speed": request.speed,
        "chunk_rows": request.chunk_rows,
        "label_delay_ms": request.label_delay_ms,
        "models": [
            {
                "version": model,
                "manifest_sha256": sha256(request.models_dir / str(model) / MANIFEST),
                "seed": load_manifest(request.models_dir / str(model)).seed,
                "schema_id": f"{replayer.serving.codec.schema_id:016x}",
                "threshold": replayer.serving.live.threshold,
                "merchant_threshold": replayer.serving.merchant_threshold,
                "seen_until": load_manifest(request.models_dir / str(model)).seen_until,
            }
            for model, replayer in zip(request.models, replayers, strict=True)
        ],
    }


def data_of(request: ReplayRequest) -> list[dict[str, Any]]:
    """The files or the topic that are replayed, each with its checksum."""
    if request.log is not None:
        return [{"topic": request.log.topic, "transactions": len(request.log.table), "sha256": request.log.digest}]
    files = [request.path] if request.path.is_file() else sorted(p for p in request.path.glob("*") if p.is_file())
    return [{"path": str(p), "bytes": p.stat().st_size, "sha256": _digest(p)} for p in files]


def _digest(path: Path) -> str:
    with path.open("rb") as file:  # in parts: the file may be larger than memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_measure(table: TransactionTable, replayed: Replayed) -> tuple[np.ndarray[Any, Any], ...]:
    alert = (replayed.decision["flags"] & ALERT) > 0
    return tuple(column[replayed.kept] for column in (replayed.decision["score"], alert, table.label, table.time_ms))
