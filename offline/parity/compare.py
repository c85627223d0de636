"""What differs between the stream's decisions and the replay's, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from offline.parity.decided import Decided
from offline.parity.log import Log
from offline.parity.online import Online
from panther_core.data.events import Alert, Decision, Reason
from panther_core.data.table import TransactionTable
from panther_core.decide.reasons import reasons_of
from panther_core.kafka.answers import Position
from panther_core.state.record import ALERT, COLD, LATE
from stream.worker.publish import decision_behind

CONTRIBUTION_TOLERANCE = 2e-3  # nats; alerts carry three decimals


@dataclass(frozen=True)
class Mismatch:
    """One event whose decisions differ: `field` first of all that do, and what both sides say."""

    row: int  # of the log; -1 for a decision without a transaction
    transaction_id: str
    place: Position
    scored_at: int
    version: int  # that the decision names
    field: str
    online: Any
    replayed: Any


@dataclass
class Comparison:
    """The counts that a report gives, and every mismatch by the time of its decision."""

    compared: int = 0
    max_abs_error: float = 0.0
    repeated: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    not_compared: int = 0  # scores made from outdated outputs, which a replay does not have; the rest of them was
    missing: list[Position] = field(default_factory=list)
    extra: list[Position] = field(default_factory=list)
    alerts_online: int = 0
    alerts_replayed: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)


def compare(log: Log, online: Online, decided: Decided, tolerance: float) -> Comparison:
    """Every row of the log against what was published of it."""
    out = Comparison(repeated=online.repeated)
    given: dict[str, bytes] = {}  # transaction id -> its last decision, as it was published
    for row, (place, transaction) in enumerate(zip(log.place, log.table.transaction_id.tolist(), strict=True)):
        decision, alert = online.decisions.get(place), online.alerts.get(place)
        if decision is None:
            out.missing.append(place)
            continue
        if place in online.altered:
            _note(out, log, row, decision, f"repeated {online.altered[place]}", "other bytes than before", "the same")
        elif not decided.kept[row]:
            out.repeated += 1
            if given.get(transaction) not in (None, online.values[place]):
                _note(out, log, row, decision, "repeated decision", "other bytes than before", "the same")
        else:
            given[transaction] = online.values[place]
            _one(out, log, row, decided, decision, alert, tolerance)
    known = set(log.place)
    out.extra = sorted(place for place in online.decisions.keys() | online.alerts.keys() if place not in known)
    out.mismatches.sort(key=lambda m: (m.scored_at, m.place))
    return out


def _one(
    out: Comparison,
    log: Log,
    row: int,
    decided: Decided,
    decision: Decision,
    alert: Alert | None,
    tolerance: float,
) -> None:
    made = decided.decision[row]
    out.compared += 1
    out.alerts_online += alert is not None
    out.alerts_replayed += bool(made["flags"] & ALERT)
    out.versions[decision.model.version] += 1
    if decision.degraded:
        out.degraded[decision.degraded] += 1
    outdated = decision.degraded == "cached"
    out.not_compared += outdated
    if decision.model.version in (0, int(made["model_version"])) and not outdated:
        out.max_abs_error = max(out.max_abs_error, abs(decision.score - float(made["score"])))
    for name, ours, theirs in _differences(log.table, row, made, decision, alert, tolerance):
        _note(out, log, row, decision, name, ours, theirs)
        return


def _differences(
    table: TransactionTable, row: int, made: Any, decision: Decision, alert: Alert | None, tolerance: float
) -> Iterator[tuple[str, Any, Any]]:
    """(field, online, replayed) of each difference; what comes first explains what follows."""
    exact = (
        ("transaction_id", decision.transaction_id, str(table.transaction_id[row])),
        ("user_id", decision.user_id, table.user[row]),
        ("event_time", decision.event_time, int(table.time_ms[row])),
        ("history_len", decision.history_len, int(made["history_len"])),
        ("cold_start", decision.cold_start, bool(made["flags"] & COLD)),
        ("late", decision.late, bool(made["flags"] & LATE)),
        ("alert record", alert is not None, decision.alert),
    )
    yield from (part for part in exact if part[1] != part[2])
    if alert is not None and decision_behind(alert) != decision:
        yield "alert record", "not of this decision", "of this decision"
    if decision.degraded == "cached":
        return
    if decision.model.version != int(made["model_version"]):
        yield "model version", decision.model.version, int(made["model_version"])
    if decision.threshold != float(made["threshold"]):
        yield "threshold", decision.threshold, float(made["threshold"])
    if not abs(decision.score - float(made["score"])) <= tolerance:
        yield "score", decision.score, float(made["score"])
    if decision.alert != bool(made["flags"] & ALERT):
        yield "alert", decision.alert, bool(made["flags"] & ALERT)
    if alert is not None:
        ours, theirs = alert.reasons, reasons_of(made["reason"], made["contribution"])
        if not same_reasons(ours, theirs):
            yield "reasons", _readable(ours), _readable(theirs)


def same_reasons(ours: list[Reason], theirs: list[Reason]) -> bool:
    """The same codes and contributions; two that are equal within the tolerance may have changed places."""
    if len(ours) != len(theirs):
        return False
    pairs = zip(ours, theirs, strict=True)
    if any(abs(a.contribution - b.contribution) > CONTRIBUTION_TOLERANCE for a, b in pairs):
        return False
    left = {reason.code: reason.contribution for reason in theirs}
    return all(abs(left.get(a.code, float("inf")) - a.contribution) <= CONTRIBUTION_TOLERANCE for a in ours)


def _readable(reasons: list[Reason]) -> list[str]:
    return [f"{reason.code} {reason.contribution:+.3f}" for reason in reasons]


def _note(out: Comparison, log: Log, row: int, decision: Decision, name: str, ours: Any, theirs: Any) -> None:
    out.mismatches.append(
        Mismatch(
            row,
            decision.transaction_id,
            log.place[row],
            decision.scored_at,
            decision.model.version,
            name,
            ours,
            theirs,
        )
    )
