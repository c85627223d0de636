"""What differs between the stream's decisions and the replay's, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from offline.parity.decided import ReplayedLog
from offline.parity.log import StreamLog
from offline.parity.online import Online
from panther_core.data.decision import Alert, Decision, Degraded, Reason
from panther_core.decide.reasons import reasons_of
from panther_core.decide.records import decision_behind, decisions_of
from panther_core.kafka.answers import Position

CONTRIBUTION_TOLERANCE = 2e-3  # nats; alerts carry three decimals


@dataclass(frozen=True)
class Mismatch:
    """One event whose decisions differ: the first field that differs, and its value on both sides."""

    row: int  # of the log; -1 for a decision without a transaction
    transaction_id: str
    place: Position
    scored_at: int
    version: int  # that the decision names
    field: str
    online: Any
    replayed: Any


@dataclass
class LogComparison:
    """The counts of a parity report, and every mismatch in the order of the decisions' times."""

    compared: int = 0
    max_abs_error: float = 0.0
    repeated: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    not_compared: int = 0  # scores from outdated outputs, which a replay does not have; their other fields are compared
    missing: list[Position] = field(default_factory=list)
    extra: list[Position] = field(default_factory=list)
    alerts_online: int = 0
    alerts_replayed: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)


def compare(log: StreamLog, online: Online, decided: ReplayedLog, tolerance: float) -> LogComparison:
    """Compare every row of the log with what was published for it."""
    out = LogComparison(repeated=online.repeated)
    users = [log.table.user[row] or "" for row in range(len(log))]
    replayed = decisions_of(decided.decision, log.table.transaction_id.tolist(), users, log.table.time_ms.tolist())
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
            made = decided.decision[row]
            reasons = reasons_of(made["reason"], made["contribution"]) if alert is not None else []
            _one(out, log, row, replayed[row], reasons, decision, alert, tolerance)
    known = set(log.place)
    out.extra = sorted(place for place in online.decisions.keys() | online.alerts.keys() if place not in known)
    out.mismatches.sort(key=lambda m: (m.scored_at, m.place))
    return out


def _one(
    out: LogComparison,
    log: StreamLog,
    row: int,
    replayed: Decision,
    reasons: list[Reason],
    decision: Decision,
    alert: Alert | None,
    tolerance: float,
) -> None:
    out.compared += 1
    out.alerts_online += alert is not None
    out.alerts_replayed += replayed.alert
    out.versions[decision.model.version] += 1
    if decision.degraded:
        out.degraded[decision.degraded] += 1
    outdated = decision.degraded == Degraded.CACHED.word
    out.not_compared += outdated
    if decision.model.version in (0, replayed.model.version) and not outdated:
        out.max_abs_error = max(out.max_abs_error, abs(decision.score - replayed.score))
    for name, ours, theirs in _differences(replayed, reasons, decision, alert, tolerance):
        _note(out, log, row, decision, name, ours, theirs)
        return


def _differences(
    replayed: Decision, reasons: list[Reason], online: Decision, alert: Alert | None, tolerance: float
) -> Iterator[tuple[str, Any, Any]]:
    """(field, online, replayed) of each difference, causes before their consequences."""

    def exact(*names: str) -> Iterator[tuple[str, Any, Any]]:
        pairs = ((name, getattr(online, name), getattr(replayed, name)) for name in names)
        return (pair for pair in pairs if pair[1] != pair[2])

    yield from exact("transaction_id", "user_id", "event_time", "history_len", "cold_start", "late")
    if (alert is not None) != online.alert:
        yield "alert record", alert is not None, online.alert
    if alert is not None and decision_behind(alert) != online:
        yield "alert record", "not of this decision", "of this decision"
    if online.degraded == Degraded.CACHED.word:
        return
    if online.model != replayed.model:
        yield "model version", online.model.version, replayed.model.version
    yield from exact("threshold")
    if not abs(online.score - replayed.score) <= tolerance:
        yield "score", online.score, replayed.score
    yield from exact("alert")
    if alert is not None and not same_reasons(alert.reasons, reasons):
        yield "reasons", _readable(alert.reasons), _readable(reasons)


def same_reasons(ours: list[Reason], theirs: list[Reason]) -> bool:
    """Whether codes and contributions agree; reasons of equal contribution may have changed places."""
    if len(ours) != len(theirs):
        return False
    pairs = zip(ours, theirs, strict=True)
    if any(abs(a.contribution - b.contribution) > CONTRIBUTION_TOLERANCE for a, b in pairs):
        return False
    left = {reason.code: reason.contribution for reason in theirs}
    return all(abs(left.get(a.code, float("inf")) - a.contribution) <= CONTRIBUTION_TOLERANCE for a in ours)


def _readable(reasons: list[Reason]) -> list[str]:
    return [f"{reason.code} {reason.contribution:+.3f}" for reason in reasons]


def _note(out: LogComparison, log: StreamLog, row: int, decision: Decision, name: str, ours: Any, theirs: Any) -> None:
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
