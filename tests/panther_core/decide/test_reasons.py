"""Which reasons an alert gets: from panther_explain, asked for alerts only, or without it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import msgspec
import numpy as np
import pytest

from panther_core.data.decision import ALERT, Alert, Degraded, Expected, Reason
from panther_core.data.merchant_events import RISK_NAMES, RISK_UNKNOWN
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.decide.decisions import LiveModel
from panther_core.decide.engine import Answer, Decided, Prefetch, decide
from panther_core.decide.reasons import CODES, DENSE_KIND, KINDS, reasons_of, strongest
from panther_core.decide.scoring import SURPRISE, EncodeRequest, EncodeResponse, ExplainRequest, ScoreRequest
from panther_core.state.features import FEATURES, NAMES
from tests import ROOT
from tests.panther_core.conftest import MODEL, Stream, answer_of, encode, explain

# Stored states hold places in this list
_STORED = [
    "UNUSUAL_AMOUNT",
    "UNUSUAL_CHANNEL",
    "UNUSUAL_CATEGORY",
    "RISKY_COUNTERPARTY",
    "UNUSUAL_TIMING",
    "UNUSUAL_HOUR",
    "NEW_MERCHANT",
    "NEW_COUNTRY",
    "NEW_DEVICE",
    "HIGH_VELOCITY",
    "UNEXPECTED_BEHAVIOUR",
    "UNUSUAL_SEQUENCE",
    "USER_PROFILE",
]


def test_every_input_of_the_head_belongs_to_one_kind_and_kinds_keep_their_place() -> None:
    assert list(CODES[: len(_STORED)]) == _STORED
    parts = Counter(part for _, _, parts in KINDS for part in parts)
    assert set(parts.values()) == {1}
    assert set(parts) == {*SURPRISE, "log_p", "z", "sigma", "cold", "e_u", "text"}
    assert len(set(NAMES)) == len(NAMES)
    for column, feature in enumerate(FEATURES):
        assert CODES[DENSE_KIND[column]] == feature.reason
    for column, name in enumerate(("log_p", "z", "sigma", "cold", *SURPRISE), len(FEATURES)):
        assert name in KINDS[DENSE_KIND[column]][2]


def test_the_strongest_positive_terms_are_named() -> None:
    terms = np.zeros((2, len(KINDS)), np.float32)
    terms[0, [3, 5, 7, 9]] = [0.5, 2.0, -9.0, 1.0]
    terms[1, 2] = 0.1
    kinds, values = strongest(terms)
    assert [r.code for r in reasons_of(kinds[0], values[0])] == [
        "UNUSUAL_HOUR",
        "HIGH_VELOCITY",
        "RISKY_COUNTERPARTY",
    ]
    assert [r.contribution for r in reasons_of(kinds[0], values[0])] == [2.0, 1.0, 0.5]
    assert [r.code for r in reasons_of(kinds[1], values[1])] == ["UNUSUAL_CATEGORY"]


def test_explanations_are_asked_for_alerts_only(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    strict = LiveModel(1, 0.85, MODEL.rules, MODEL.typical_surprise)
    for low in range(0, 400, 40):
        stream.feed(table.events(schema, None)[:400][low : low + 40], strict)
    alerts = [d for d in stream.decisions.values() if d["flags"] & ALERT]
    assert 20 < len(alerts) < 380
    asked = 0
    for before, request in zip(stream.requests, stream.requests[1:], strict=False):
        if isinstance(request, ExplainRequest):
            assert isinstance(before, ScoreRequest)
            assert set(request.code.tolist()) <= set(before.code.tolist())
            asked += len(request.code)
            kinds, terms = strongest(explain(request).contribution)
            given = {(d["reason"].tobytes(), d["contribution"].tobytes()) for d in alerts}
            assert {(k.tobytes(), t.tobytes()) for k, t in zip(kinds, terms, strict=True) if k[0]} <= given
    assert asked == len(alerts)


def test_what_is_begun_beside_the_reasons_is_what_is_asked_for_afterwards(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:200]
    users, rows = np.unique(events["user"], return_inverse=True)
    states = stream.codec.decode([None] * len(users))
    begun: list[tuple[EncodeRequest, EncodeResponse]] = []
    answer: Answer = None
    steps = decide(states, rows, events, schema, MODEL, lambda: 10**12, events["time_ms"])
    kinds = []
    with suppress(StopIteration):
        while True:
            need = steps.send(answer)
            kinds.append(type(need))
            answer = None
            if isinstance(need, Prefetch):
                begun.append((need.request, encode(need.request)))
            elif begun and need is begun[0][0]:
                answer = begun.pop()[1]
            elif not isinstance(need, Decided):
                answer = answer_of(need)
    assert not begun
    after = [kinds[i + 1 : i + 4] for i, kind in enumerate(kinds) if kind is Prefetch]
    assert len(after) > 3
    assert all(three == [ExplainRequest, Decided, EncodeRequest] for three in after)
    stream.feed(events)
    values = stream.codec.encode(states)
    assert dict(zip(users.tolist(), values, strict=True)) == stream.states


def test_without_explanations_alerts_have_the_reasons_of_the_rules(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:200]
    stream.feed(events)
    without = Stream(schema)
    without.down = {ExplainRequest}
    without.feed(events)
    differ = 0
    for transaction, decision in stream.decisions.items():
        other = without.decisions[transaction]
        for name in ("score", "flags", "degraded", "model_version", "history_len"):
            assert decision[name] == other[name]
        if decision["flags"] & ALERT:
            assert other["reason"][0]
            differ += decision["reason"].tobytes() != other["reason"].tobytes()
        else:
            assert decision["reason"].tobytes() == other["reason"].tobytes()
    assert differ


def test_alerts_of_the_rules_are_not_explained_by_a_model_that_is_down(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    stream.down = {ScoreRequest}
    stream.feed(table.events(schema, None)[:40], LiveModel(1, 0.0, MODEL.rules, MODEL.typical_surprise))
    assert all(d["flags"] & ALERT and d["degraded"] == Degraded.RULES for d in stream.decisions.values())
    assert not any(isinstance(request, ExplainRequest) for request in stream.requests)


def known(**said: float) -> np.ndarray:
    """What is known of a merchant (EVENT) of whom this is known."""
    return np.array([(RISK_UNKNOWN | said)[name] for name in RISK_NAMES], np.float32)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"streak": 5, "streak_day": 6, "last_fraud_day": 3, "known_28d": 12, "frauds_28d": 5},
            "All 5 known payments at this merchant of 9 to 12 November were reported as fraud; 5 of 12 reports of the "
            "last 28 days",
        ),
        (
            {"streak": 1, "streak_day": 20, "last_fraud_day": 20, "known_28d": 3, "frauds_28d": 1},
            "The newest known payment at this merchant of 26 October was reported as fraud; 1 of 3 reports of the last "
            "28 days",
        ),
        (
            {"streak": 2, "streak_day": 17, "last_fraud_day": 12, "known_28d": 2, "frauds_28d": 2},
            "All 2 known payments at this merchant of 29 October to 3 November were reported as fraud; 2 of 2 reports "
            "of the last 28 days",
        ),
        (
            {"known_28d": 12, "frauds_28d": 2},
            "2 of 12 reports of the last 28 days on payments at this merchant were of fraud",
        ),
        ({"known_28d": 4}, "None of 4 reports of the last 28 days on payments at this merchant was of fraud"),
    ],
)
def test_a_reason_tells_what_was_reported_of_the_merchant(said: dict[str, float], sentence: str) -> None:
    kinds = np.array([CODES.index("MERCHANT_REPORTED") + 1, CODES.index("RISKY_COUNTERPARTY") + 1, 0], np.uint8)
    contributions, when_ms = np.array([1.0, 0.5, 0], np.float32), 1_794_744_000_000  # 15 November 2026
    first, second = reasons_of(kinds, contributions, known(**said), when_ms)
    assert first.description == sentence
    assert first.numbers == {
        "reports_28d": said["known_28d"],
        "frauds_28d": said.get("frauds_28d", 0),
        "frauds_in_a_row": said.get("streak", 0),
    }
    assert second.numbers == {}
    assert reasons_of(kinds, contributions)[0].description == "What payments at this merchant turned out to be"
    nothing = reasons_of(kinds, contributions, known(), when_ms)[0]
    assert (nothing.description, nothing.numbers) == ("What payments at this merchant turned out to be", {})


def test_the_manual_has_every_field_and_every_code() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    fields = [field.encode_name for struct in (Alert, Reason, Expected) for field in msgspec.structs.fields(struct)]
    for name in fields:
        assert any(row.split(".")[-1] == f"{name}`" or row == f"`{name}`" for row in rows), name
    for code, _, _ in KINDS:
        assert f"`{code}`" in rows
