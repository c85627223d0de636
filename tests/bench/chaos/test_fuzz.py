"""Odd records through the whole intake: the small version of `panther bench fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.fuzz import damaged_records, fuzz_intake
from panther_core.base.errors import InvalidEvent
from panther_core.data.events import decode_transaction
from panther_core.serving_model import load_serving_model


def test_every_odd_record_is_an_event_or_a_dead_letter(artifact_folder: Path) -> None:
    result = fuzz_intake(damaged_records(20_000, seed=5), load_serving_model(artifact_folder))
    assert result["ok"]
    assert result["events"] > 1000, "some are good, and reach hashing, codes and profile"
    wanted = {
        *("malformed_json", "invalid_field", "wrong_key", "time_out_of_range", "invalid_time"),
        *("amount_out_of_range", "too_large", "empty"),
    }
    assert result["codes"].keys() == wanted


def outcome(payload: bytes) -> str:
    """`event`, or the code of the refusal."""
    try:
        return "event" if decode_transaction(payload).user_id else "event of nobody"
    except InvalidEvent as error:
        return error.code


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    assert outcome(payload) in {"event", "empty", "malformed_json", "invalid_field", "amount_out_of_range"}


@pytest.mark.parametrize(("depth", "wanted"), [(10, "event"), (5000, "malformed_json"), (30_000, "malformed_json")])
def test_deep_nesting_is_refused(depth: int, wanted: str) -> None:
    good = b'{"transaction_id":"t","user_id":"u","merchant_id":"m","merchant_category":"c","amount":1,"currency":"EUR",'
    payload = good + b'"channel":"chip","event_time":1735689600000,"extra":' + b"[" * depth + b"]" * depth + b"}"
    assert outcome(payload) == wanted
