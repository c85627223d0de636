"""Headers and values of topics that anybody may have written to: read, or said to be unreadable, never an exception."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord

from panther_core.data.decision import Decision, ModelRef
from panther_core.data.events import ModelUpdate
from panther_core.kafka.answers import (
    NOWHERE,
    Skipped,
    Unreadable,
    app_of,
    header_of,
    headers_of,
    position_of,
    read_alert,
    read_decision,
    read_label,
    read_progress,
    read_update,
    readable,
)

DECISION = Decision(
    transaction_id="t", user_id="u", event_time=1_740_823_200_000, scored_at=5, latency_ms=7, score=0.5, threshold=0.9,
    alert=False, history_len=0, cold_start=True, late=False, degraded=None, model=ModelRef("panther", 1),
)  # fmt: skip
UPDATE = {"name": "panther", "version": 1, "threshold": 0.5, "schema_fingerprint": "", "artifact": "models/1"}


def record(value: bytes | None = None, headers: list[tuple[str, Any]] | None = None, offset: int = 7) -> Any:
    return ConsumerRecord("topic", 2, offset, 0, 0, b"u", value, None, 0, 0, headers or [])


def test_what_is_published_is_read_back() -> None:
    answer = record(msgspec.json.encode(DECISION), headers_of("panther", 3, 17))
    assert (position_of(answer), app_of(answer), read_decision(answer.value)) == ((3, 17), b"panther", DECISION)
    assert position_of(record(headers=[("source", b"transactions:3:17")])) == (3, 17)


@pytest.mark.parametrize(
    "source",
    [
        None,
        b"",
        b"\xff:1",
        "0:²".encode(),
        "٣:٤".encode(),
        b"0:" + b"9" * 5000,
        b"-1:2",
        b"1",
        b"1:",
        b":1",
        b" 1:2",
        b"1:2\n",
    ],
)
def test_a_source_that_is_no_position_is_nowhere(source: bytes | None) -> None:
    assert position_of(record(headers=[("source", source)])) == NOWHERE


def test_a_null_header_is_as_none() -> None:
    assert (app_of(record(headers=[("app", None)])), header_of(record(), "code")) == (b"", b"")


@pytest.mark.parametrize(
    "change",
    [
        *({"score": 2.0}, {"score": -1e300}, {"threshold": None}, {"history_len": 2**40}, {"latency_ms": -(2**40)}),
        *({"degraded": "later"}, {"model": {"name": "m", "version": -1}}, {"event_time": 2**64}, {"user_id": "a\x1bb"}),
        *({"transaction_id": "__panther\0application"}, {"scored_at": 10**30}, {"alert": 1}),
    ],
    ids=str,
)
def test_a_decision_that_no_row_can_hold_is_unreadable(change: dict[str, Any]) -> None:
    value = msgspec.json.encode(msgspec.to_builtins(DECISION)).decode()
    assert isinstance(read_decision(value.encode()), Decision)
    changed = (
        msgspec.json.encode({**msgspec.json.decode(value), **change})
        if "scored_at" not in change
        else (value.replace('"scored_at":5', '"scored_at":1' + "0" * 30).encode())
    )
    assert isinstance(read_decision(changed), Unreadable)


@pytest.mark.parametrize("read", [read_alert, read_decision, read_label, read_progress, read_update])
@pytest.mark.parametrize("value", [None, b"", b"[]", b"nil", b"{}", b"\xff", b'{"a":' * 5000, b"NaN", b"1e999"])
def test_what_does_not_parse_is_unreadable(read: Any, value: bytes | None) -> None:
    assert isinstance(read(value), Unreadable)


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"version": 2**32}, {"artifact": ""}, {"artifact": "a\0b"}, {"name": "\x1b[2J"}], ids=str
)
def test_an_update_of_no_version_or_no_folder_is_unreadable(change: dict[str, Any]) -> None:
    assert isinstance(read_update(msgspec.json.encode(UPDATE)), ModelUpdate)
    assert isinstance(read_update(msgspec.json.encode(UPDATE | change)), Unreadable)


def test_skipped_records_are_counted_and_the_first_is_placed() -> None:
    values = (msgspec.json.encode(UPDATE), b"", b"no update", msgspec.json.encode(UPDATE))
    skipped, lines = Skipped("models.updates"), list[str]()
    found = list(readable([record(value, offset=i) for i, value in enumerate(values)], read_update, skipped))
    assert [r.offset for r, _ in found] == [0, 3]
    skipped.say(lines.append)
    assert lines == [
        "  2 of 4 records of models.updates were skipped, the first at topic:2:1: "
        "expected a JSON object, got an empty value"
    ]
