"""Stored decisions (DECISION rows) to the records on the topics and back, and records to JSON: pure functions.

So a redelivered transaction is answered byte for byte as the first time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import DECISION, FIELDS, Alert, Decision, Usual
from panther_core.data.events import Transaction
from panther_core.data.schema import AttributeSchema, hash64
from panther_core.decide.reasons import expected_of, in_words, kind_of, reasons_of

_ALERTS = uuid.UUID("5d1d4a3c-6f0e-5c56-9d3b-6a0a2f7f9b11")  # namespace of alert ids
#: by how much of the way from the threshold to 1 the score lies above the threshold
_LEVELS = ((2 / 3, "critical"), (1 / 3, "high"), (0.0, "medium"))
_encode = msgspec.json.Encoder().encode


def alert_id(user_id: str, transaction_id: str, content: int | None = None) -> str:
    """The same transaction gives the same alert id, whoever computes it and however often.

    Ids are a user's own: two users may give their transactions one id. `content`: hash of what was paid (EVENT), for a
    transaction whose id the user has used before.
    """
    name = f"{user_id}\0{transaction_id}"  # no id holds a control character
    return str(uuid.uuid5(_ALERTS, name if content is None else f"{name}\0{content:016x}"))


def decisions_of(
    rows: NDArray[np.void], transaction_ids: Iterable[str], user_ids: Iterable[str], event_times: Iterable[int]
) -> list[Decision]:
    """Records of stored DECISION rows; of the transactions what the rows do not hold, in the same order."""
    return list(map(Decision, transaction_ids, user_ids, event_times, *(field.values(rows) for field in FIELDS)))


def rows_of(decisions: Sequence[Decision]) -> NDArray[np.void]:
    """DECISION rows [B] behind published decisions, as far as the records tell: no reasons."""
    rows = np.zeros(len(decisions), DECISION)
    rows["transaction"] = [hash64(decision.transaction_id) for decision in decisions]
    for field in FIELDS:
        field.put(rows, [getattr(decision, field.name) for decision in decisions])
    return rows


def row_of(decision: Decision, alert: Alert | None) -> np.void:
    """The DECISION row behind a published decision, with the reasons of its alert."""
    row = rows_of([decision])
    if alert is not None:
        for i, reason in enumerate(alert.reasons):
            row["reason"][0, i], row["contribution"][0, i] = kind_of(reason.code), reason.contribution
    out: np.void = row[0]
    return out


def decision_behind(alert: Alert) -> Decision:
    """The decision that an alert was published with."""
    return Decision(*(getattr(alert, name) for name in Decision.__struct_fields__))


def alert_of(
    row: np.void,
    decision: Decision,
    transaction: Transaction,
    schema: AttributeSchema,
    tokenizer_version: str,
    content: int = 0,
    seller: NDArray[np.float32] | None = None,
    seller_as_of: int | None = None,
    ratio: float | None = None,
    usual: Usual | None = None,
) -> Alert:
    """The alert of a decision above its threshold. `row`: DECISION; `content`: hash of what was paid (EVENT), which
    tells apart the alerts of payments under one id; `seller`: what was known of the merchant (EVENT), as of
    which moment (epoch ms; None: the transaction's); `ratio`: amount over what is usual for the user,
    `usual`: what else is (panther_core.decide.habits)."""
    usual_amount = round(transaction.amount / ratio, 2) if decision.history_len > 0 and ratio else None
    reasons = reasons_of(
        row["reason"], row["contribution"], seller, decision.event_time if seller_as_of is None else seller_as_of
    )
    return Alert(
        **msgspec.structs.asdict(decision),
        alert_id=alert_id(decision.user_id, decision.transaction_id, content if decision.id_reused else None),
        merchant_id=transaction.merchant_id,
        risk_score=round(100 * decision.score),
        risk_level=level_of(decision.score, decision.threshold),
        reasons=[in_words(reason, transaction, decision.event_time, usual_amount, usual) for reason in reasons],
        expected=expected_of(row["expected"], schema),
        tokenizer_version=tokenizer_version,
        amount=transaction.amount,
        currency=transaction.currency or None,
        merchant_category=transaction.merchant_category or None,
        channel=transaction.channel or None,
        country=transaction.country,
        device=transaction.device,
        usual_amount=usual_amount,
        usual=usual,
    )


def level_of(score: float, threshold: float) -> str:
    """How far an alert's score lies above its threshold, as a word."""
    above = (score - threshold) / (1 - threshold) if threshold < 1 else 1.0
    return next((name for floor, name in _LEVELS if above >= floor), _LEVELS[-1][1])


def to_json(record: msgspec.Struct) -> bytes:
    """Value of the record on its topic."""
    return _encode(record)
