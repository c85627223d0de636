"""Of each trouble that comes through Kafka one wrong outcome, planted in honest books: the checker must find it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.chaos.check import check
from bench.chaos.evidence import ChaosEvidence
from bench.chaos.inputs import EPOCH
from bench.chaos.traffic import traffic_of
from bench.outsiders import ODD_IDS, POISON_IDS, decision, garbage
from panther_core.data.decision import Decision
from panther_core.data.table import TransactionTable
from panther_core.data.topics import SCORES
from panther_core.kafka.answers import headers_of
from tests.bench.chaos.test_chaos_check import Books, books_of, kafka_record

_BEFORE, _HOT = 250, 40
_ABORTED = 10**5  # an offset that no committed record has
_FAR = "2099-01-01T00:00:00Z"
Plant = Callable[[ChaosEvidence], ChaosEvidence]


def payment(name: str, user: str, **changes: Any) -> tuple[bytes, bytes]:
    record = {"transaction_id": name, "user_id": user, "merchant_id": "m", "merchant_category": "grocery"}
    record |= {"amount": 5.0, "currency": "EUR", "channel": "chip", "event_time": "2025-03-01T10:00:00Z"}
    return user.encode(), json.dumps(record | changes).encode()


@pytest.fixture(scope="module")
def books(log: TransactionTable, artifact_folder: Path) -> Books:
    """What a worker leaves behind that meets every trouble and does all right."""
    plain = list(traffic_of(log.take(slice(0, 600)), seed=2))
    troubles = [
        *[payment(f"poison-{i}", user) for i, user in enumerate((*POISON_IDS, *ODD_IDS))],
        *[(b"acct", garbage(i)) for i in range(20)],
        *[payment(f"far-{i}", "far", event_time=_FAR) for i in range(3)],
        *[payment(f"hot-{i}", "hot") for i in range(_HOT)],
    ]
    before = [kafka_record(i, *record) for i, record in enumerate(plain[:_BEFORE])]
    anew = [kafka_record(EPOCH + i, *record) for i, record in enumerate([*troubles, *plain[_BEFORE:]])]
    trimmed = {record.offset for record in anew[-100:-50]}
    evidence, serving, model = books_of([r for r in (*before, *anew) if r.offset not in trimmed], [], artifact_folder)
    gone = frozenset((0, offset) for offset in trimmed)
    return replace(evidence, trimmed=gone, counted_trimmed=len(gone)), serving, model


def test_a_worker_that_does_all_right_is_in_order(books: Books) -> None:
    verdict = check(*books)
    assert verdict["ok"], (verdict["wrong"], verdict["examples"])
    assert verdict["trimmed"] == 50
    assert len(books[0].cuts) == 1
    assert {dict(r.headers)["code"] for r in books[0].dead} >= {b"invalid_field", b"time_out_of_range"}


def place_of(evidence: ChaosEvidence, name: str) -> tuple[int, int]:
    """Position of the input with this transaction id."""
    wanted = f'"{name}"'.encode()
    return next((r.partition, r.offset) for r in evidence.inputs if r.value and wanted in r.value)


def without(evidence: ChaosEvidence, name: str) -> list[Any]:
    """The decisions, but for those of one transaction."""
    at = place_of(evidence, name)
    return [r for r in evidence.decisions if evidence.position(r) != at]


def recalled_by_position_alone(evidence: ChaosEvidence) -> ChaosEvidence:
    """The first decision on the new topic is the one that the old topic's record at its offset had got."""
    cut = evidence.cuts[0][SCORES, 0]
    new = evidence.decisions[cut]
    old = next((r for r in evidence.decisions[:cut] if r.headers == new.headers), evidence.decisions[0])
    decisions = list(evidence.decisions)
    decisions[cut] = replace(new, value=old.value)
    return replace(evidence, decisions=decisions)


def taken_for_applied(evidence: ChaosEvidence) -> ChaosEvidence:
    """A payment on the new topic, whose offset its user's state knew from the old one, got no decision."""
    return replace(evidence, decisions=evidence.decisions[:-1])


def decided(evidence: ChaosEvidence, offset: int) -> ChaosEvidence:
    """A decision for the record at `offset` more than there should be."""
    headers = headers_of("app", 0, offset % EPOCH)
    more = kafka_record(10**6, b"", decision("t", "u"), headers, SCORES)
    return replace(evidence, decisions=[*evidence.decisions, more])


def forged_in_place(evidence: ChaosEvidence) -> ChaosEvidence:
    """The worker published a forged decision, recalled for its position, instead of its own."""
    decisions = list(evidence.decisions)
    decisions[-1] = replace(decisions[-1], value=decision("forged", "somebody"))
    return replace(evidence, decisions=decisions)


def forged_under_the_right_id(evidence: ChaosEvidence) -> ChaosEvidence:
    decisions, last = list(evidence.decisions), msgspec.json.decode(evidence.decisions[-1].value or b"", type=Decision)
    decisions[-1] = replace(decisions[-1], value=decision(last.transaction_id, last.user_id))
    return replace(evidence, decisions=decisions)


def without_dead(evidence: ChaosEvidence, needle: bytes) -> ChaosEvidence:
    dead = [r for r in evidence.dead if needle not in (r.value or b"")]
    assert len(dead) < len(evidence.dead)
    return replace(evidence, dead=dead)


PLANTED: dict[str, tuple[Plant, str]] = {
    "anew: recalled by position": (recalled_by_position_alone, "wrong_transaction"),
    "anew: taken for applied": (taken_for_applied, "lost"),
    "retention: not counted": (lambda e: replace(e, counted_trimmed=0), "trimmed_uncounted"),
    "retention: decided after all": (lambda e: decided(e, min(e.trimmed)[1]), "decision_of_nothing"),
    "aborted: decided": (lambda e: decided(e, _ABORTED), "decision_of_nothing"),
    "hot user: lost": (lambda e: replace(e, decisions=without(e, f"hot-{_HOT // 2}")), "lost"),
    "poison: decided": (lambda e: decided(e, place_of(e, "poison-0")[1]), "decision_of_nothing"),
    "poison: silent": (lambda e: without_dead(e, b"poison-0"), "dead_letter_missing"),
    "forged: in place of a decision": (forged_in_place, "wrong_transaction"),
    "forged: under the right id": (forged_under_the_right_id, "wrong_history"),
    "garbage: silent": (lambda e: without_dead(e, b"pacs.008"), "dead_letter_missing"),
    "2099: silent": (lambda e: without_dead(e, _FAR.encode()), "dead_letter_missing"),
}


@pytest.mark.parametrize(("plant", "kind"), PLANTED.values(), ids=PLANTED)
def test_a_planted_wrong_outcome_is_found(books: Books, plant: Plant, kind: str) -> None:
    evidence, serving, model = books
    assert check(plant(evidence), serving, model)["wrong"][kind] > 0


def test_a_poisoned_clock_is_found_in_the_state(books: Books) -> None:
    """A state whose newest time is 2099: its user's later payments would be late for ever."""
    evidence, serving, model = books
    states = serving.codec.decode([record.value for record in evidence.changelog])
    states["last_time_ms"][0] = 4_070_908_800_000
    values = serving.codec.encode(states)
    changelog: list[Any] = [replace(r, value=v) for r, v in zip(evidence.changelog, values, strict=True)]
    assert check(replace(evidence, changelog=changelog), serving, model)["wrong"]["state"] > 0
