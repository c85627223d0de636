"""What is shown of a user, from a replay and from the live state alike."""

from __future__ import annotations

import msgspec
import numpy as np

from panther_core.data.decision import Expected, Reason, values_of
from panther_core.data.schema import AttributeSchema
from panther_core.decide.reasons import expected_of, reasons_of


class ShownDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One event, what was expected in its place, and what was decided. `label` -1 unknown."""

    when: str
    transaction_id: str
    came: str
    """Category, channel, amount and whatever else is known of it."""
    expected: list[Expected]
    score: float
    threshold: float
    alert: bool
    reasons: list[Reason]
    history_len: int
    notes: list[str]
    model_version: int
    label: int


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A user's last events, oldest first, and what is expected next."""

    user_id: str
    source: str
    model: str
    events: list[ShownDecision]
    next: list[Expected]
    """After the last event; from a replay, which ends at the event asked for, and from the live state alike."""


def shown_decision(
    decision: np.void,
    schema: AttributeSchema,
    when: str,
    came: str,
    transaction_id: str,
    label: int = -1,
    reasons: list[Reason] | None = None,
) -> ShownDecision:
    """Put a DECISION into words. `reasons`: with what they tell of the merchant, which the decision does not hold."""
    made = values_of(decision)
    notes = [note for name, note in (("cold_start", "no history"), ("late", "late")) if made[name]]
    if degraded := made["degraded"]:
        notes.append(f"degraded: {degraded}")
    return ShownDecision(
        when=when,
        transaction_id=transaction_id,
        came=came,
        expected=expected_of(decision["expected"], schema),
        score=made["score"],
        threshold=made["threshold"],
        alert=made["alert"],
        reasons=reasons_of(decision["reason"], decision["contribution"]) if reasons is None else reasons,
        history_len=made["history_len"],
        notes=notes,
        model_version=made["model"].version,
        label=label,
    )


def behaviour(expected: Expected) -> str:
    """A behaviour in one line."""
    top = "and more" if expected.amount_to is None else f"to {expected.amount_to:,.2f}"
    words = [word for word in (expected.category, expected.channel) if word != "unknown"]
    return ", ".join([*words, f"{expected.amount_from:,.2f} {top}"])
