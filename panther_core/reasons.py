"""Why a transaction looked like fraud, as a short list an analyst can read.

Two sources, both in nats (so that they can be ranked together): how much more surprising than usual an attribute
was to the behaviour model, and the additive logit contributions of the rule model on the context features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.events import Expected, Reason
from panther_core.features import NAMES
from panther_core.schema import AttributeSchema
from panther_core.scoring import SURPRISE
from panther_core.state import REASONS

#: (code, sentence, the surprises and features it sums up); the place in this list, plus 1, is stored in the state,
#: so entries are appended and never moved
KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "UNUSUAL_AMOUNT",
        "The amount is unlike what this user usually pays",
        ("amount", "amount_z", "amount_vs_1d", "amount_vs_30d"),
    ),
    ("UNUSUAL_CHANNEL", "The payment channel is unexpected for this user now", ("channel", "channel_share")),
    ("UNUSUAL_CATEGORY", "The kind of merchant is unexpected for this user now", ("category", "category_share")),
    ("RISKY_COUNTERPARTY", "The merchant has an elevated fraud history", ("risk",)),
    ("UNUSUAL_TIMING", "The time since the last payment is unexpected for this user", ("gap", "log_gap_s")),
    ("UNUSUAL_HOUR", "The hour is unexpected for this user", ("hour", "hour_share")),
    ("NEW_MERCHANT", "The user has not paid this merchant recently", ("merchant_new", "merchant_share")),
    ("NEW_COUNTRY", "The country differs from the last one", ("country_new",)),
    ("NEW_DEVICE", "The device differs from the last one", ("device_new",)),
    ("HIGH_VELOCITY", "Many payments in a short time", ("count_1h", "count_1d", "sum_1h", "sum_1d")),
)


def _members() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    surprises = np.zeros((len(SURPRISE), len(KINDS)), np.float32)
    features = np.zeros((len(NAMES), len(KINDS)), np.float32)
    for kind, (_, _, parts) in enumerate(KINDS):
        for part in parts:
            # "risk" names both a surprise and a feature: a risky merchant that is usual here is still risky
            if part in SURPRISE:
                surprises[SURPRISE.index(part), kind] = 1
            if part in NAMES:
                features[NAMES.index(part), kind] = 1
    return surprises, features


_SURPRISE_TO_KIND, _FEATURE_TO_KIND = _members()


def rank_reasons(
    surprise: NDArray[np.float32] | None, contributions: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The REASONS strongest kinds of each row: (kind + 1, or 0 for none; contribution in nats).

    `surprise` [B, A] is relative to what is usual for the attribute (None when no model answered);
    `contributions` [B, F] are the rule model's additive logit terms.
    """
    strength = contributions @ _FEATURE_TO_KIND
    if surprise is not None:
        strength = strength + surprise @ _SURPRISE_TO_KIND
    order = np.argsort(-strength, axis=1, kind="stable")[:, :REASONS]
    top = np.take_along_axis(strength, order, axis=1).astype(np.float32)
    return np.where(top > 0, order + 1, 0).astype(np.uint8), np.where(top > 0, top, 0)


def reasons_of(kinds: NDArray[np.uint8], contributions: NDArray[np.float32]) -> list[Reason]:
    """Readable reasons of one stored decision."""
    return [
        Reason(KINDS[kind - 1][0], KINDS[kind - 1][1], round(float(value), 3))
        for kind, value in zip(kinds.tolist(), contributions.tolist(), strict=True)
        if kind
    ]


def expected_of(codes: NDArray[np.void], schema: AttributeSchema) -> list[Expected]:
    """The behaviours that were likeliest, in words; empty for a cold user. Amounts in the log's currency unit."""
    edges = (0.0, *schema.amount_edges, float("inf"))
    out = []
    for code in codes:
        amount, channel, category = int(code["amount"]), int(code["channel"]), int(code["category"])
        if not amount:
            continue
        top = edges[min(amount, len(edges) - 1)]
        out.append(
            Expected(
                category=schema.categories[category - 1] if category else "unknown",
                channel=schema.channels[channel - 1] if channel else "unknown",
                amount_from=edges[amount - 1],
                amount_to=None if top == float("inf") else top,
            )
        )
    return out
