"""Fuzzed payloads through the whole intake: every one a row or a dead letter, never an exception."""

from dataclasses import dataclass

import numpy as np
import pytest

from panther_core.data.events import decode_transaction
from panther_core.data.generator import PROFILE
from panther_core.data.generator.malformed import KINDS, fuzz, malformed
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import fit_schema
from stream.worker.intake import Intake, read_batch

SCHEMA = fit_schema(np.arange(1.0, 100.0), ["groceries"], ["chip"], profile=PROFILE)
RISK = MerchantRisk.fit(np.zeros(0, np.uint64), np.zeros(0, np.int8), 4)


@dataclass
class Record:
    value: bytes | None
    offset: int
    key: bytes | None = None
    partition: int = 0
    timestamp: float = 1_750_000_000.0


def read(payloads: list[bytes]) -> Intake:
    return read_batch([Record(p, i) for i, p in enumerate(payloads)], SCHEMA, RISK)


def test_malformed_records_are_dead_with_their_code() -> None:
    cases = malformed(200, seed=2)
    intake = read([payload for _, payload in cases])
    assert not len(intake.events)
    assert [d.code for d in intake.dead] == [KINDS[kind][0] for kind, _ in cases]


@pytest.mark.parametrize("seed", range(3))
def test_fuzz(seed: int) -> None:
    payloads = fuzz(5000, seed=seed)
    records = [Record(p, i) for i, p in enumerate(payloads)]
    dead = read_batch(records, SCHEMA, RISK).dead
    # what was only refused for its key is sent again under the right one: these reach hashing and profile codes
    keyed = []
    for letter in dead:
        if letter.code == "wrong_key":
            key = decode_transaction(letter.record.value).user_id.encode()
            keyed.append(Record(letter.record.value, letter.record.offset, key))
    intake = read_batch(keyed, SCHEMA, RISK)
    assert len(intake.events) == len(keyed)
    assert not intake.dead
    assert 0 < len(keyed) < len(payloads)
