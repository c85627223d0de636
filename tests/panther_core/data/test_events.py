import json
from typing import Any

import pytest

from panther_core.base.errors import InvalidEvent
from panther_core.data.events import MAX_BYTES, decode_transaction, event_time_ms, record_time_ms

GOOD: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "u1",
    "merchant_id": "m1",
    "merchant_category": "food",
    "amount": 12.5,
    "currency": "EUR",
    "channel": "chip",
    "event_time": "2018-04-02T10:00:00Z",
}


def payload(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}).encode()


def test_extra_fields_are_ignored_and_optional_ones_may_be_missing() -> None:
    assert decode_transaction(payload(extra={"a": [1]})).country is None


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (b"", "empty", "empty"),
        (None, "empty", "empty"),
        (b"{", "malformed_json", "JSON"),
        (b"\xff\xfe", "malformed_json", "JSON"),
        (b"[1]", "invalid_field", "object"),
        (payload(amount="12"), "invalid_field", r"\$\.amount"),
        (payload(user_id=...), "invalid_field", "user_id"),
        (payload(user_id=""), "invalid_field", r"\$\.user_id"),
        (payload(transaction_id=7), "invalid_field", r"\$\.transaction_id"),
        (payload(transaction_id="a\0b"), "invalid_field", r"control.*\$\.transaction_id"),
        (payload(user_id="__panther\0application"), "invalid_field", r"control.*\$\.user_id"),
        (payload(merchant_id="m\n1"), "invalid_field", r"control.*\$\.merchant_id"),
        (payload(user_id="u\x9b1"), "invalid_field", r"control.*\$\.user_id"),
        (payload().replace(b"12.5", b"NaN"), "malformed_json", "JSON"),
        (payload(amount=-1), "amount_out_of_range", r"\$\.amount"),
        (payload(amount=1e12), "amount_out_of_range", r"\$\.amount"),
        (payload(device="x" * 2_000_000), "too_large", str(MAX_BYTES)),
    ],
)
def test_bad_values_name_the_reason_and_the_field(value: bytes | None, code: str, text: str) -> None:
    with pytest.raises(InvalidEvent, match=text) as caught:
        decode_transaction(value)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2018-04-02T10:00:00Z", 1522663200000),
        ("2018-04-02T12:00:00+02:00", 1522663200000),
        ("2018-04-02T10:00:00", 1522663200000),
        (1522663200000, 1522663200000),
    ],
)
def test_times_in_both_forms(value: str | int, expected: int) -> None:
    assert event_time_ms(value, expected) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1970-01-01T00:00:00Z", "time_out_of_range"),
        (0, "time_out_of_range"),
        ("2200-01-01T00:00:00Z", "time_out_of_range"),
        (2**70, "time_out_of_range"),
        ("yesterday", "invalid_time"),
    ],
)
def test_impossible_times_are_refused(value: str | int, code: str) -> None:
    with pytest.raises(InvalidEvent, match="event_time") as caught:
        event_time_ms(value, 1_700_000_000_000)
    assert caught.value.code == code


def test_null_is_not_given_and_letters_of_any_script_are_ids() -> None:
    given = decode_transaction(
        payload(
            merchant_category=None,
            channel=None,
            currency=None,
            profile={"age": None, "vip": True},
            user_id="\u4f60\u200d",
        )
    )
    assert (given.merchant_category, given.channel, given.currency) == (None, None, None)
    assert given.profile == {"age": None, "vip": True}


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (1_699_999_000_000, 1_699_999_000_000),
        (None, 1_700_000_000_000),
        (-1, 1_700_000_000_000),
        (0, 1_700_000_000_000),
        (1_700_000_000, 1_700_000_000_000),  # seconds
        (4_070_908_800_000, 1_700_000_000_000),  # 2099
    ],
)
def test_a_timestamp_that_is_no_clocks_is_replaced(timestamp_ms: int | None, expected: int) -> None:
    assert record_time_ms(timestamp_ms, 1_700_000_000_000) == expected
