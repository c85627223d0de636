"""Odd records through the whole intake: the small version of `panther bench fuzz`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.fuzz import damaged_records, fuzz_intake
from bench.chaos.own_words import own_records, own_words
from panther_core.base.errors import InvalidEvent
from panther_core.data.events import decode_transaction
from panther_core.data.topics import SCORES, TRANSACTIONS
from panther_core.serving_model import load_serving_model
from stream.faust_parts.recovery import OWNER


def test_every_odd_record_is_an_event_or_a_dead_letter(artifact_folder: Path) -> None:
    result = fuzz_intake(damaged_records(20_000, seed=5), load_serving_model(artifact_folder))
    assert result["ok"]
    assert result["events"] > 1000, "some are good, and reach hashing, codes and profile"
    wanted = {
        *("malformed_json", "invalid_field", "wrong_key", "time_out_of_range", "invalid_time"),
        *("amount_out_of_range", "too_large", "empty"),
    }
    assert result["codes"].keys() == wanted


def test_the_program_is_fuzzed_in_its_own_words() -> None:
    words = set(own_words())
    stored = {OWNER.decode(), "__faust\0offset__"}
    assert words >= {TRANSACTIONS, SCORES, "source", "app", "code", "wrong_key", "rules", "panther_score", *stored}
    assert all(len(word) <= 128 for word in words)


def test_records_of_the_program_are_no_payments() -> None:
    assert {outcome(record) for record in own_records()} == {"invalid_field"}


def test_the_fuzzer_sends_own_words_as_keys_users_and_profiles() -> None:
    words, records = set(own_words()), list(damaged_records(20_000, seed=5))
    users = [payment.get("user_id") for _, payload in records if isinstance(payment := parsed(payload), dict)]
    assert len({key.decode() for key, _ in records if key} & words) > 200
    assert sum(user in words for user in users if isinstance(user, str)) > 200


def parsed(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


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
