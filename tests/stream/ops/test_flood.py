"""Dead letters are said in the log: the first, a flood, and a count each minute; no identifier with them."""

from __future__ import annotations

import logging

import pytest

from stream.ops.flood import FLOOD, DeadLetterNotice


class Clock:
    """Seconds that a test sets."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_a_flood_is_three_lines_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    notice = DeadLetterNotice(clock)
    for number in range(5000):
        clock.now_s += 0.01
        notice.note("invalid_field" if number % 10 else "wrong_key", 2, 70 + number, "expected $.amount, got 'user-7'")
    first, flood = caplog.records
    assert {first.levelno, flood.levelno} == {logging.WARNING}
    assert "dead letter wrong_key at transactions 2:70: expected $.amount, got '...'" in first.getMessage()
    assert f"a flood of dead letters: {FLOOD} within 1 s: invalid_field 90 in partition 2" in flood.getMessage()
    clock.now_s += 60
    notice.tell()
    notice.tell()
    assert [r.getMessage() for r in caplog.records[2:]] == [
        "dead letters: 5,000 within 110 s: invalid_field 4,500 in partition 2, wrong_key 500 in partition 2"
    ]


def test_one_dead_letter_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    notice = DeadLetterNotice(clock)
    notice.note("empty", 0, 1, "expected a value, got none")
    clock.now_s += 61
    notice.tell()
    assert len(caplog.records) == 1
    notice.note("empty", 0, 2, "expected a value, got none")
    assert len(caplog.records) == 2
