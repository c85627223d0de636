"""Why a transaction looked like fraud, as a short list an analyst can read.

A reason's contribution is the additive term of its kind in the calibrated logit (panther_core.model.explain), against
an average transaction of a user of whom nothing is known: the terms of all kinds and that base sum up to the logit.
Without an answer of panther_explain it is the term in the rule model's logit plus how much more surprising than usual
an attribute was to the behaviour model; both are in nats too, but sum up to nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.decision import REASONS, Expected, Reason, Usual
from panther_core.data.events import Transaction
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.schema import AttributeSchema
from panther_core.decide.scoring import SURPRISE
from panther_core.state.features import FEATURES, WIDTH

#: (code, sentence, inputs of the fraud head beside the context features that name this code in
#: panther_core.state.features.FEATURES). The place in this list, plus 1, is stored in states, so entries are appended
#: and never moved. Inputs are names of attributes (their surprise), and `log_p`, `z`, `sigma`, `cold`, `e_u`, `text`;
#: every input stands in exactly one entry. "risk" is an attribute, and a feature too: a risky merchant that is usual
#: for the user is still risky.
KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("UNUSUAL_AMOUNT", "The amount is unlike what this user usually pays", ("amount",)),
    ("UNUSUAL_CHANNEL", "The payment channel is unexpected for this user now", ("channel",)),
    ("UNUSUAL_CATEGORY", "The kind of merchant is unexpected for this user now", ("category",)),
    ("RISKY_COUNTERPARTY", "The merchant has an elevated fraud history", ("risk",)),
    ("UNUSUAL_TIMING", "The time since the last payment is unexpected for this user", ("gap",)),
    ("UNUSUAL_HOUR", "The hour is unexpected for this user", ("hour",)),
    ("NEW_MERCHANT", "The user has not paid this merchant recently", ()),
    ("NEW_COUNTRY", "The country differs from the last one", ()),
    ("NEW_DEVICE", "The device differs from the last one", ()),
    ("HIGH_VELOCITY", "Many payments in a short time", ()),
    ("UNEXPECTED_BEHAVIOUR", "This is not what the user was expected to do next", ("log_p", "z", "sigma")),
    ("UNUSUAL_SEQUENCE", "The last payments in a row look like a fraud pattern", ("text",)),
    ("USER_PROFILE", "What is known of this user: learned profile, length of the history", ("e_u", "cold")),
    ("UNUSUAL_SPENDING", "Payments of the last days were larger than this user's usual ones", ()),
    ("MERCHANT_REPORTED", "What payments at this merchant turned out to be", ()),
)
_HALF_A_DAY_H = 12  # a longer stretch is no habit
CODES = tuple(code for code, _, _ in KINDS)
_REPORTED = CODES.index("MERCHANT_REPORTED") + 1

_KIND_OF = {part: kind for kind, (_, _, parts) in enumerate(KINDS) for part in parts}
#: kind of each column of FraudHead.dense; a code that FEATURES names and KINDS has not stops the import
DENSE_KIND: NDArray[np.intp] = np.array(
    [
        *(CODES.index(feature.reason) for feature in FEATURES),
        *(_KIND_OF[name] for name in ("log_p", "z", "sigma", "cold", *SURPRISE)),
    ]
)
EMBEDDING_KIND, TEXT_KIND = _KIND_OF["e_u"], _KIND_OF["text"]
_TO_KIND = np.eye(len(KINDS), dtype=np.float32)[DENSE_KIND]


def strongest(strength: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The REASONS largest positive terms of [B, G]: (kind + 1, or 0 for none; the term)."""
    strength = strength[:, : len(KINDS)]  # a newer server may know more kinds
    order = np.argsort(-strength, axis=1, kind="stable")[:, :REASONS]
    top = np.take_along_axis(strength, order, axis=1).astype(np.float32)
    return np.where(top > 0, order + 1, 0).astype(np.uint8), np.where(top > 0, top, 0)


def rank_reasons(
    surprise: NDArray[np.float32] | None, contributions: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Reasons without panther_explain: the REASONS strongest kinds of each row, as `strongest` gives them.

    `surprise` [B, A] is relative to what is usual for the attribute (None when no model answered);
    `contributions` [B, F] are the rule model's additive logit terms.
    """
    strength = contributions @ _TO_KIND[:WIDTH]
    if surprise is not None:
        strength = strength + surprise @ _TO_KIND[-len(SURPRISE) :]
    return strongest(strength)


def kind_of(code: str) -> int:
    """The stored number of a reason code; 0 for a code that this release does not know."""
    return CODES.index(code) + 1 if code in CODES else 0


def reasons_of(
    kinds: NDArray[np.uint8],
    contributions: NDArray[np.float32],
    seller: NDArray[np.float32] | None = None,
    as_of_ms: int = 0,
) -> list[Reason]:
    """Readable reasons of one stored decision.

    `seller`, `as_of_ms`: what was known of the merchant (EVENT) on which day; without them, or where no label is known,
    a reason tells no numbers of the merchant.
    """
    out = []
    for kind, value in zip(kinds.tolist(), contributions.tolist(), strict=True):
        if kind:
            code, text, _ = KINDS[kind - 1]
            numbers: dict[str, float] = {}
            if kind == _REPORTED and seller is not None:
                known = dict(zip(RISK_NAMES, seller.tolist(), strict=True))
                if known["known_28d"] or known["streak"]:
                    text, numbers = reported(known, as_of_ms // DAY_MS)
            out.append(Reason(code, text, round(float(value), 3), numbers))
    return out


def in_words(
    reason: Reason, transaction: Transaction, event_time: int, usual_amount: float | None, usual: Usual | None
) -> Reason:
    """A reason with what came, and what is usual for the user where that is known; others as they are."""
    if reason.code == "UNUSUAL_AMOUNT":
        text, numbers = _amount(transaction, usual_amount, usual)
    elif reason.code == "UNUSUAL_HOUR":
        text, numbers = _hour(event_time, usual)
    elif reason.code == "UNUSUAL_CATEGORY":
        places = usual.categories if usual else []
        text, numbers = _place("kind of merchant", transaction.merchant_category, places), {}
    elif reason.code == "UNUSUAL_CHANNEL":
        text, numbers = _place("payment channel", transaction.channel, usual.channels if usual else []), {}
    else:
        return reason
    return Reason(reason.code, text, reason.contribution, numbers)


def _amount(transaction: Transaction, usual_amount: float | None, usual: Usual | None) -> tuple[str, dict[str, float]]:
    numbers = {"amount": transaction.amount}
    text = f"The amount, {transaction.amount:,.2f}{f' {transaction.currency}' if transaction.currency else ''}, "
    # frauds in a row are among the newest payments, too: where the usual range holds the amount, it says nothing
    if usual and usual.amount_to is not None and not usual.amount_from <= transaction.amount <= usual.amount_to:
        text += f"is unlike what this user usually pays, {usual.amount_from:,.2f} to {usual.amount_to:,.2f}"
        return text, numbers | {"usual_from": usual.amount_from, "usual_to": usual.amount_to}
    if usual_amount is not None:
        return f"{text}is unlike what this user usually pays, some {usual_amount:,.2f}", numbers | {
            "usual_amount": usual_amount
        }
    return f"{text}is unusual", numbers


def _hour(event_time: int, usual: Usual | None) -> tuple[str, dict[str, float]]:
    hour = datetime.fromtimestamp(event_time / 1000, UTC).hour
    text, numbers = f"The hour, {hour:02}:00 UTC, is unexpected for this user", {"hour": float(hour)}
    if usual is not None and (usual.hour_to - usual.hour_from) % 24 < _HALF_A_DAY_H:
        text += f", who usually pays from {usual.hour_from:02}:00 to {usual.hour_to:02}:59"
        numbers |= {"usual_hour_from": float(usual.hour_from), "usual_hour_to": float(usual.hour_to)}
    return text, numbers


def _place(what: str, came: str | None, usual: list[str]) -> str:
    text = f"The {what}{f', {came},' if came else ''} is unexpected for this user now"
    return f"{text}; usual are {', '.join(usual)}" if usual else text


def reported(known: dict[str, float], today: int) -> tuple[str, dict[str, float]]:
    """What labels said of a merchant, in a sentence and in numbers, days are numbered from the epoch on.

    `today`: the day as of which it is known.
    """
    in_a_row, reports, frauds = (round(known[name]) for name in ("streak", "known_28d", "frauds_28d"))
    last = today - round(known["last_fraud_day"])
    numbers: dict[str, float] = {"reports_28d": reports, "frauds_28d": frauds, "frauds_in_a_row": in_a_row}
    if in_a_row:
        first = today - round(known["streak_day"])
        what = f"All {in_a_row} known payments" if in_a_row > 1 else "The newest known payment"
        when = _days_in_words(first, last)
        text = f"{what} at this merchant {when} {'were' if in_a_row > 1 else 'was'} reported as fraud"
        return f"{text}; {frauds} of {reports} reports of the last 28 days", numbers
    if not frauds:
        return f"None of {reports} reports of the last 28 days on payments at this merchant was of fraud", numbers
    return f"{frauds} of {reports} reports of the last 28 days on payments at this merchant were of fraud", numbers


def _days_in_words(first: int, last: int) -> str:
    begin, end = (datetime.fromtimestamp(day * DAY_MS / 1000, UTC) for day in (first, last))
    words = f"{end.day} {end:%B}"
    if first == last:
        return f"of {words}"
    return f"of {begin.day} to {words}" if begin.month == end.month else f"of {begin.day} {begin:%B} to {words}"


def expected_of(codes: NDArray[np.void], schema: AttributeSchema) -> list[Expected]:
    """The behaviours that were likeliest, in words; empty for a cold user. Amounts in the log's currency unit.

    The codes are a model's answer: one that the schema does not know is left out, or is "unknown".
    """
    edges = (0.0, *schema.amount_edges, float("inf"))
    out = []
    for code in codes:
        amount, channel, category = int(code["amount"]), int(code["channel"]), int(code["category"])
        if not 0 < amount < len(edges):
            continue
        top = edges[amount]
        out.append(
            Expected(
                category=schema.categories[category - 1] if 0 < category <= len(schema.categories) else "unknown",
                channel=schema.channels[channel - 1] if 0 < channel <= len(schema.channels) else "unknown",
                amount_from=edges[amount - 1],
                amount_to=None if top == float("inf") else top,
            )
        )
    return out
