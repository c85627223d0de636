"""Stored decisions to the JSON that goes on the topics: a pure function of decision and transaction.

So a redelivered transaction is answered byte for byte as the first time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import Alert, Decision, ModelProgress, ModelRef, Transaction
from panther_core.data.schema import AttributeSchema, hash64
from panther_core.decide.reasons import KINDS, expected_of, patterns_of, reasons_of
from panther_core.state.record import ALERT, COLD, DECISION, DEGRADED, LATE

MODEL_NAME = "panther"
_ALERTS = uuid.UUID("5d1d4a3c-6f0e-5c56-9d3b-6a0a2f7f9b11")  # namespace of alert ids
_LEVELS = ((0.9, "critical"), (0.7, "high"), (0.4, "medium"), (0.0, "low"))
_COLUMNS = ("scored_at", "latency_ms", "score", "threshold", "history_len", "flags", "degraded", "model_version")
_encode = msgspec.json.Encoder().encode


def alert_id(transaction_id: str) -> str:
    """The same transaction gives the same alert id, whoever computes it and however often."""
    return str(uuid.uuid5(_ALERTS, transaction_id))


def decisions_of(
    rows: NDArray[np.void], transactions: Iterable[Transaction], event_times: Iterable[int]
) -> list[Decision]:
    """Decision structs of stored DECISION rows."""
    # a field of a single row costs ten times a number of a list
    columns = [rows[name].tolist() for name in _COLUMNS]
    models = {version: ModelRef(MODEL_NAME if version else "rules", version) for version in set(columns[-1])}
    return [
        Decision(
            transaction_id=transaction.transaction_id,
            user_id=transaction.user_id,
            event_time=event_time,
            scored_at=scored_at,
            latency_ms=latency_ms,
            score=score,
            threshold=threshold,
            alert=bool(flags & ALERT),
            history_len=history_len,
            cold_start=bool(flags & COLD),
            late=bool(flags & LATE),
            degraded=DEGRADED[degraded],
            model=models[version],
        )
        for (
            transaction,
            event_time,
            scored_at,
            latency_ms,
            score,
            threshold,
            history_len,
            flags,
            degraded,
            version,
        ) in zip(transactions, event_times, *columns, strict=True)
    ]


def row_of(decision: Decision, alert: Alert | None) -> np.void:
    """The DECISION row behind a published decision, as far as the records tell: reasons only of an alert."""
    row = np.zeros(1, DECISION)
    row["transaction"] = hash64(decision.transaction_id)
    for name in ("scored_at", "latency_ms", "score", "threshold", "history_len"):
        row[name] = getattr(decision, name)
    row["model_version"] = decision.model.version
    row["flags"] = decision.alert * ALERT + decision.cold_start * COLD + decision.late * LATE
    row["degraded"] = DEGRADED.index(decision.degraded)
    if alert is not None:
        kinds = {code: kind + 1 for kind, (code, _, _) in enumerate(KINDS)}
        for i, reason in enumerate(alert.reasons):
            row["reason"][0, i], row["contribution"][0, i] = kinds.get(reason.code, 0), reason.contribution
        for i, pattern in enumerate(alert.patterns):
            row["prototype"][0, i], row["similarity"][0, i] = pattern.prototype, pattern.similarity
    out: np.void = row[0]
    return out


def decision_behind(alert: Alert) -> Decision:
    """The decision that an alert was published with."""
    names = Decision.__struct_fields__
    return Decision(
        **{name: getattr(alert, name) for name in names if name not in ("alert", "schema_version")}, alert=True
    )


def alert_of(
    row: np.void, decision: Decision, transaction: Transaction, schema: AttributeSchema, tokenizer_version: str
) -> Alert:
    """Alert struct of a decision above its threshold."""
    return Alert(
        alert_id=alert_id(decision.transaction_id),
        transaction_id=decision.transaction_id,
        user_id=decision.user_id,
        merchant_id=transaction.merchant_id,
        event_time=decision.event_time,
        scored_at=decision.scored_at,
        latency_ms=decision.latency_ms,
        score=decision.score,
        risk_score=round(100 * decision.score),
        risk_level=next(name for floor, name in _LEVELS if decision.score >= floor),
        threshold=decision.threshold,
        reasons=reasons_of(row["reason"], row["contribution"]),
        expected=expected_of(row["expected"], schema),
        patterns=patterns_of(row["prototype"], row["similarity"]),
        history_len=decision.history_len,
        cold_start=decision.cold_start,
        late=decision.late,
        degraded=decision.degraded,
        model=decision.model,
        tokenizer_version=tokenizer_version,
    )


def to_json(record: Decision | Alert | ModelProgress) -> bytes:
    """Value of the record."""
    return _encode(record)
