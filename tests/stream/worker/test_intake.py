"""Fuzzed payloads through the whole intake: every one a row or a dead letter, never an exception."""

import json
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from panther_core.data.events import decode_transaction
from panther_core.data.generator import PROFILE
from panther_core.data.generator.malformed import KINDS, fuzz, malformed, valid
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import fit_schema
from panther_core.kafka.partitioner import partitions_of
from stream.worker.intake import Intake, Placement, read_batch

SCHEMA = fit_schema(np.arange(1.0, 100.0), ["groceries"], ["chip"], profile=PROFILE)
RISK = MerchantRisk.fit(np.zeros(0, np.uint64), np.zeros(0, np.int8), 4)


@dataclass
class Record:
    value: bytes | None
    offset: int
    key: bytes | None = None
    partition: int = 0
    timestamp: float | None = 1_750_000_000.0


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


NOW_MS = 1_750_000_000_000


def good(number: int, **changes: object) -> bytes:
    return json.dumps(valid(number, np.random.default_rng(number)) | {"user_id": "u-1"} | changes).encode()


def test_a_clock_in_2099_is_refused_though_the_record_agrees() -> None:
    far = 4_070_908_800_000
    intake = read_batch([Record(good(1, event_time=far), 0, b"u-1", timestamp=far / 1000)], SCHEMA, RISK, now_ms=NOW_MS)
    assert [letter.code for letter in intake.dead] == ["time_out_of_range"]


def test_a_record_without_a_timestamp_is_received_now() -> None:
    records = [Record(good(i), i, b"u-1", timestamp=t) for i, t in enumerate((None, -0.001, 0.0, NOW_MS / 1e6))]
    intake = read_batch(records, SCHEMA, RISK, now_ms=NOW_MS)
    assert intake.received_ms.tolist() == [NOW_MS] * 4


def test_a_record_on_another_partition_than_its_keys_is_a_dead_letter() -> None:
    right = murmur2(b"u-1") % 4
    records = [Record(good(i), i, b"u-1", partition=i) for i in range(4)]
    intake = read_batch(records, SCHEMA, RISK, Placement(4, "murmur2"))
    assert [record.partition for record in intake.records] == [right]
    assert {letter.code for letter in intake.dead} == {"wrong_partition"}
    assert len(read_batch(records, SCHEMA, RISK, Placement(4, "none")).records) == 4
    assert [r.partition for r in read_batch(records, SCHEMA, RISK, Placement(4, "crc32")).records] == [
        crc32(b"u-1") % 4
    ]


def test_with_rates_amounts_are_of_one_currency_and_others_are_dead_letters() -> None:
    paid = [good(i, amount=10.0, currency=word) for i, word in enumerate(("EUR", "USD", "GBP", None))]
    records = [Record(payload, i, b"u-1") for i, payload in enumerate(paid)]
    intake = read_batch(records, SCHEMA, RISK, Placement(1, "none", {"EUR": 1.0, "USD": 0.92}))
    assert [(t.amount, t.currency) for t in intake.transactions] == [(10.0, "EUR"), (pytest.approx(9.2), "EUR")]
    assert intake.events["amount"].tolist() == pytest.approx([10.0, 9.2])
    assert [letter.code for letter in intake.dead] == ["unknown_currency"] * 2
    assert "expected a currency out of EUR, USD" in intake.dead[0].message
    assert len(read_batch(records, SCHEMA, RISK).transactions) == 4, "without rates amounts count as they come"


def test_a_key_in_json_quotes_is_named() -> None:
    (letter,) = read_batch([Record(good(1), 0, b'"u-1"')], SCHEMA, RISK).dead
    assert letter.code == "wrong_key"
    assert "JSON quotes" in letter.message


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=50), st.integers(1, 64))
def test_the_partitions_of_many_keys_are_those_of_the_producers_own_partitioner(keys: list[bytes], count: int) -> None:
    expected = [(murmur2(key) & 0x7FFFFFFF) % count for key in keys]
    assert partitions_of(keys, count, "murmur2").tolist() == expected


def test_the_content_of_a_payment_is_all_but_the_profile() -> None:
    changed: list[dict[str, object]] = [
        {"amount": 1e6}, {"merchant_id": "m"}, {"merchant_category": "x"}, {"channel": "x"}, {"currency": "USD"},
        {"country": "FR"}, {"device": "d9"}, {"event_time": 1_735_689_600_001},
    ]  # fmt: skip
    records = [
        Record(good(1, event_time=1_735_689_600_000, **c) if "event_time" not in c else good(1, **c), 0, b"u-1")
        for c in [{}, *changed]
    ]
    contents = read_batch(records, SCHEMA, RISK).events["content"].tolist()
    assert len(set(contents)) == len(contents) == 9
    keyed = [
        Record(good(1, event_time=t, **c), 0, b"u-1")
        for t, c in ((1_735_689_600_000, {}), ("2025-01-01T00:00:00Z", {"profile": {"age": 7}, "note": "x"}))
    ]
    assert len(set(read_batch(keyed, SCHEMA, RISK).events["content"].tolist())) == 1
