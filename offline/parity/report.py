"""`panther parity`: the report that compares what a stream has decided with a replay of the same transactions."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from offline.parity.compare import LogComparison, Mismatch, compare
from offline.parity.decided import ReplayedLog, decide_log
from offline.parity.inputs import first_cause, readable, replayed_inputs
from offline.parity.log import StreamLog, from_table, from_topic
from offline.parity.online import Online
from offline.replay.replayer import Replayer
from offline.replay.request import replayer_of
from offline.replay.sellers import sellers_at
from offline.replay.topic import read_log
from panther_core.base.errors import BadInput, FingerprintMismatch
from panther_core.base.files import written_whole
from panther_core.base.settings import KafkaSettings
from panther_core.data.formats import read_table
from panther_core.data.table import TransactionTable
from panther_core.data.topics import ALERTS, SCORES, TRANSACTIONS, changelog_of
from panther_core.kafka.reading import read_topic
from panther_core.kafka.updates import updates

_LISTED = 1000  # mismatches in the report
TOLERANCE = 1e-5


@dataclass(frozen=True)
class ParityRequest:
    """What to compare.

    `past`: a file of the transactions that users had before, or "topic": what each partition of the topic holds before
    its first decision.
    """

    models: tuple[int, ...]
    models_dir: Path
    app_id: str
    data: Path | None = None  # else `topic`
    format: str = "fdh"
    topic: str = TRANSACTIONS
    scores_topic: str = SCORES
    alerts_topic: str = ALERTS
    past: str | None = None
    limit: int | None = None
    tolerance: float = TOLERANCE


def run_parity(
    kafka: KafkaSettings, request: ParityRequest, out: Path | None = None, past: TransactionTable | None = None
) -> dict[str, Any]:
    """The report, also written to the folder `out` if given. Raises BadInput, InvalidFile, ArtifactError.

    `past`: the transactions that users had before, where they are neither in a file nor on the topic.
    """
    if out is not None and (out / "parity.json").exists():
        raise BadInput(f"expected a new folder, {out} holds a report: give another --out or remove it")
    replayers = load_replayers(request)
    online = asyncio.run(_read_online(kafka, request))
    if not online.decisions:
        raise BadInput(
            f"expected decisions of application {request.app_id} on {request.scores_topic}, found none: check "
            "--scores-topic and PANTHER_APP_ID, and that a worker runs"
        )
    log = _log(kafka, request, online, past)
    seller = asyncio.run(sellers_at(kafka, log.place, online.sellers))
    log = replace(log, table=replace(log.table, seller=seller))
    decided = decide_log(log, online, replayers, asyncio.run(_announced(kafka)))
    compared = compare(log, online, decided, request.tolerance)
    report = summary(log, compared) | {"models": list(request.models), "tolerance": request.tolerance}
    report["unreadable"] = online.unreadable
    if compared.mismatches:
        report["first_mismatch"] = _explain(kafka, request, log, decided, replayers, compared.mismatches[0])
    if out is not None:
        _write(out, report, compared)
    return report


def load_replayers(request: ParityRequest) -> list[Replayer]:
    """One replayer for each version.

    Raises BadInput for a version that is missing or named twice, FingerprintMismatch for versions of two schemas.
    """
    if not request.models or len(set(request.models)) != len(request.models):
        raise BadInput(f"expected different model versions, got {list(request.models)}: give each --model once")
    replayers = [replayer_of(request.models_dir, version) for version in request.models]
    for replayer in replayers[1:]:
        if replayer.serving.schema.fingerprint != replayers[0].serving.schema.fingerprint:
            raise FingerprintMismatch(
                f"expected versions of one schema, got {request.models[0]} and {replayer.serving.live.version} of two: "
                "one stream's state fits one schema; compare each application with its own versions"
            )
    return replayers


def summary(log: StreamLog, compared: LogComparison) -> dict[str, Any]:
    """The counts, as JSON."""
    return {
        "compared": compared.compared,
        "mismatches": len(compared.mismatches),
        "max_abs_error": float(f"{compared.max_abs_error:.3g}"),
        "repeated": compared.repeated,
        "degraded": dict(compared.degraded),
        "not_compared": compared.not_compared,
        "missing": len(compared.missing),
        "extra": len(compared.extra),
        "alerts_online": compared.alerts_online,
        "alerts_replayed": compared.alerts_replayed,
        "transactions": len(log),
        "past": len(log.past) if log.past is not None else 0,
        "versions": {str(version): count for version, count in sorted(compared.versions.items())},
        "first_missing": list(compared.missing[0]) if compared.missing else None,
        "first_extra": list(compared.extra[0]) if compared.extra else None,
    }


async def _announced(kafka: KafkaSettings) -> dict[int, list[float]]:
    out: dict[int, list[float]] = {}
    try:
        for update in await updates(kafka):
            out.setdefault(update.version, []).append(update.threshold)
    except BadInput:  # no such topic: the decisions that are compared came from elsewhere
        pass
    return out


async def _read_online(kafka: KafkaSettings, request: ParityRequest) -> Online:
    scores = await read_topic(kafka, request.scores_topic)
    return Online.of(request.app_id, scores, await read_topic(kafka, request.alerts_topic))


def _log(kafka: KafkaSettings, request: ParityRequest, online: Online, past: TransactionTable | None) -> StreamLog:
    if request.past not in (None, "topic"):
        past = read_table(request.format, str(request.past))
    if request.data is not None:
        if request.past == "topic":
            raise BadInput("expected a file of the past beside --data, got topic: give --history PATH")
        return from_table(read_table(request.format, request.data, limit=request.limit), online, past)
    log = from_topic(asyncio.run(read_log(kafka, request.topic)), online, request.past == "topic")
    return log if past is None else replace(log, past=past)


def _explain(
    kafka: KafkaSettings,
    request: ParityRequest,
    log: StreamLog,
    decided: ReplayedLog,
    replayers: list[Replayer],
    mismatch: Mismatch,
) -> dict[str, Any]:
    version = decided.version[mismatch.row]
    serving = next(r.serving for r in replayers if r.serving.live.version == version)
    user = log.table.user[mismatch.row] or ""
    states = asyncio.run(_states(kafka, request.app_id, user.encode(), mismatch.place[0], serving.codec))
    cause = first_cause(mismatch, log, decided, serving, states, request.tolerance)
    inputs = replayed_inputs(log, decided, serving, mismatch.row)
    return asdict(mismatch) | {"first_differing_input": asdict(cause), "inputs": readable(inputs, serving)}


async def _states(kafka: KafkaSettings, app_id: str, user: bytes, partition: int, codec: Any) -> list[np.void]:
    """The states of a user that the changelog still holds, oldest first; none where there is no changelog."""
    try:
        records = await read_topic(kafka, changelog_of(app_id), partition)
    except BadInput:
        return []
    return list(codec.decode([r.value for r in records if r.key == user and r.value]))


def _write(out: Path, report: dict[str, Any], compared: LogComparison) -> None:
    """Write both files whole. The report is put in place last, so that it stands only beside the list it belongs to."""
    lines = [json.dumps(asdict(mismatch)) for mismatch in compared.mismatches[:_LISTED]]
    with written_whole(out / "parity.json") as report_file, written_whole(out / "mismatches.jsonl") as list_file:
        report_file.write_text(json.dumps(report, indent=1))
        list_file.write_text("".join(line + "\n" for line in lines))
