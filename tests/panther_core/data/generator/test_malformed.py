"""Bad records are dead letters with the code that was promised; damaged ones never raise anything else."""

import collections

import pytest

from panther_core.base.errors import InvalidEvent
from panther_core.data.events import MAX_BYTES, decode_transaction, event_time_ms
from panther_core.data.generator.malformed import KINDS, fuzz, malformed

NOW_MS = 1_767_225_600_000  # the append time, 2026-01-01


@pytest.mark.parametrize(("kind", "payload"), malformed(len(KINDS), seed=1), ids=list(KINDS))
def test_each_kind_gets_its_code(kind: str, payload: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        event_time_ms(decode_transaction(payload).event_time, NOW_MS)
    assert caught.value.code == KINDS[kind][0]


def test_every_code_is_covered() -> None:
    assert {code for code, _ in KINDS.values()} == {
        "empty", "too_large", "malformed_json", "invalid_field", "amount_out_of_range", "invalid_time",
        "time_out_of_range",
    }  # fmt: skip
    assert max(len(payload) for _, payload in malformed(len(KINDS), 0)) > MAX_BYTES


def test_same_seed_same_payloads() -> None:
    assert malformed(100, 5) == malformed(100, 5) != malformed(100, 6)
    assert fuzz(100, 5) == fuzz(100, 5) != fuzz(100, 6)
    assert malformed(0, 1) == []
    assert fuzz(0, 1) == []


def test_fuzzed_records_are_scored_or_refused() -> None:
    outcome: collections.Counter[str] = collections.Counter()
    for payload in fuzz(30_000, seed=2):
        try:
            event_time_ms(decode_transaction(payload).event_time, NOW_MS)
            outcome["good"] += 1
        except InvalidEvent as error:
            outcome[error.code] += 1
    assert 0.1 < outcome["good"] / 30_000 < 0.5
    assert min(outcome[code] for code in ("malformed_json", "invalid_field", "invalid_time", "time_out_of_range")) > 0
