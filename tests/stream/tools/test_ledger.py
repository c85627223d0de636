"""The ledger counts what is no decision, no alert and no dead letter of ours, and goes on."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES
from stream.tools.dlq import letter_of_record
from stream.tools.ledger import Ledger


def record(topic: str, value: bytes | None, *headers: tuple[str, Any]) -> Any:
    return ConsumerRecord(topic, 0, 7, 0, 0, None, value, None, 0, 0, list(headers))


@pytest.mark.parametrize("topic", [SCORES, ALERTS])
@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b"[" * 5000])
def test_records_that_cannot_be_read_are_counted(topic: str, value: bytes | None) -> None:
    ledger = Ledger()
    ledger.add(record(topic, value))
    assert (ledger.unreadable, ledger.decisions, ledger.alerts) == (1, {}, {})


@pytest.mark.parametrize("code", [None, b"", b"\xff", b"\x1b[2J"])
def test_dead_letters_with_any_headers_are_read(code: bytes | None) -> None:
    ledger, odd = Ledger(), record(DEAD_LETTERS, None, ("code", code), ("reason", None), ("source", b"\xff\n"))
    ledger.add(odd)
    assert ledger.dead.total() == 1
    letter = letter_of_record(odd)
    assert all(word.isprintable() for word in (letter.code, letter.reason, letter.source))
    assert letter.whole()["value"] is None
