"""What a refresh learns from: the transactions that the worker decides, and the labels that say something."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.events import Label, Transaction
from panther_core.data.table import TransactionTable
from panther_core.kafka.answers import Skipped
from tests.topics import make_topics
from trainer.rollout import kafka_log as module
from trainer.rollout.kafka_log import read_log, transactions_of

NOW_MS = time.time_ns() // 1_000_000
THEN_MS = NOW_MS - 30 * DAY_MS
Sent = tuple[bytes | None, bytes | None, int | None]
"""Key, value and timestamp of a record."""


@pytest.fixture
def kafka_log(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts records on two new topics and reads the log back from them."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    names = [f"{name}-{uuid.uuid4().hex}" for name in ("transactions", "labels")]
    monkeypatch.setattr(module, "TRANSACTIONS", names[0])
    monkeypatch.setattr(module, "LABELS", names[1])

    async def send(records: tuple[list[Sent], list[Sent]]) -> None:
        anything = {"message.timestamp.after.max.ms": str(2**62)}  # as brokers before release 3.6
        await make_topics(settings, names, **anything)
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for name, part in zip(names, records, strict=True):
                for key, value, at_ms in part:
                    await producer.send_and_wait(name, value, key=key, timestamp_ms=at_ms)

    def read(transactions: list[Sent], labels: list[Sent]) -> TransactionTable:
        asyncio.run(send((transactions, labels)))
        return asyncio.run(read_log(settings, PantherSettings(partitions=1)))

    return read


def paid(number: str, user: str = "u", *, key: str | None = None, sent_ms: int | None = None, **fields: Any) -> Sent:
    known = {"merchant_id": "m", "merchant_category": "c", "amount": 5.0, "currency": "EUR", "channel": "chip"}
    fields = known | {"event_time": THEN_MS} | fields
    value = msgspec.json.encode(Transaction(transaction_id=number, user_id=user, **fields))
    return (key or user).encode(), value, sent_ms


def label(number: str, value: int, at_ms: int, user: str = "u") -> Sent:
    known = Label(transaction_id=number, user_id=user, label=value, label_time=at_ms, source="s")
    return user.encode(), msgspec.json.encode(known), None


def found(table: TransactionTable) -> dict[tuple[str | None, str], int]:
    """The label of each row by user and transaction."""
    return {(table.user[i], str(table.transaction_id[i])): int(table.label[i]) for i in range(len(table))}


def test_the_newest_label_of_a_users_transaction_counts(kafka_log: Any) -> None:
    day = THEN_MS + DAY_MS
    table = kafka_log(
        [paid("t"), paid("t", "v"), paid("back"), paid("early"), paid("last", event_time=NOW_MS)],
        [
            *(label("t", 1, day), label("t", 0, day, "v"), label("back", 1, day), label("back", 0, day + 5)),
            *(label("back", 1, day + 4), label("early", 1, NOW_MS + 9), label("nobody", 1, day)),
        ],
    )
    assert found(table) == {("u", "t"): 1, ("v", "t"): 0, ("u", "back"): 0, ("u", "early"): -1, ("u", "last"): -1}
    assert table.told_ms is not None
    assert table.told_ms[table.label >= 0].tolist() == [day, day, day + 5]


def test_a_label_that_a_worker_does_not_take_is_none(kafka_log: Any) -> None:
    """One of a clock that was weeks ahead would count over all that came since; and another's key is no user's."""
    ahead, forged = label("t", 1, THEN_MS + 20 * DAY_MS), label("t2", 1, THEN_MS + 1)
    table = kafka_log(
        [paid("t"), paid("t2"), paid("now", event_time=NOW_MS)],
        [
            (*ahead[:2], THEN_MS + DAY_MS),
            (*label("t", 0, THEN_MS + 5 * DAY_MS)[:2], THEN_MS + 5 * DAY_MS),
            (b"v", forged[1], None),
        ],
    )
    assert found(table) == {("u", "t"): 0, ("u", "t2"): -1, ("u", "now"): -1}


def test_a_label_that_is_older_than_its_payment_is_of_another_one_with_its_id(kafka_log: Any) -> None:
    """As in a log (tests/trainer/log/test_store.py): the topic has forgotten the payment, and holds its label still."""
    table = kafka_log(
        [paid("receipt 1"), paid("ahead", event_time=THEN_MS + DAY_MS - 1), paid("now", event_time=NOW_MS)],
        [label("receipt 1", 1, THEN_MS - 5 * DAY_MS), label("ahead", 1, THEN_MS)],
    )
    assert found(table) == {("u", "receipt 1"): -1, ("u", "ahead"): 1, ("u", "now"): -1}


def test_labels_that_say_nothing_are_skipped_and_said(kafka_log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good = json.loads(label("t", 1, THEN_MS + 1)[1] or b"")
    changes: tuple[dict[str, Any], ...] = (
        *({"label": True}, {"label": "1"}, {"label": 2}, {"label_time": "2025-01-01T10:00:00Z"}, {"user_id": ""}),
        *({"label_time": THEN_MS // 1000}, {"label_time": -1}, {"label_time": 10**18}, {"label": None}),
    )
    bad: list[bytes | None] = [json.dumps(good | change).encode() for change in changes]
    bad += [b"not json at all", b"[]", b"\xff\xfe", b"[" * 5000, b"", None]
    table = kafka_log(
        [paid("t"), paid("x", event_time=NOW_MS)], [(b"u", v, None) for v in bad] + [label("t", 1, NOW_MS)]
    )
    assert found(table) == {("u", "t"): 1, ("u", "x"): -1}
    said = capsys.readouterr().err
    assert (
        f"{len(bad)} of {len(bad) + 1} records of {module.LABELS} were skipped, the first at {module.LABELS}:0:0"
        in said
    )
    assert "$.label" in said


def test_records_that_the_worker_does_not_decide_are_not_learnt_from(
    kafka_log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    table = kafka_log(
        [
            *(
                paid("good"),
                paid("forged", "victim", key="attacker"),
                (None, paid("keyless")[1], None),
                (b"u", b"{", None),
            ),
            *((b"u", None, None), paid("negative", amount=-1.0), paid("old", event_time=5)),
        ],
        [],
    )
    assert found(table) == {("u", "good"): -1}
    assert (
        f"6 of 7 records of {module.TRANSACTIONS} were skipped, the first at {module.TRANSACTIONS}:0:1: wrong_key"
        in (capsys.readouterr().err)
    )


def test_of_copies_the_first_is_kept_and_an_id_used_again_is_another_payment_without_a_label(kafka_log: Any) -> None:
    table = kafka_log(
        [
            *(paid("once", profile={"age": 1}), paid("once", profile={"age": 2}), paid("once", "v")),
            *(paid("reused"), paid("reused", amount=4999.0)),
        ],
        [label("once", 1, THEN_MS), label("reused", 1, THEN_MS)],
    )
    assert sorted((table.user[i], str(table.transaction_id[i]), int(table.label[i])) for i in range(len(table))) == [
        *(("u", "once", 1), ("u", "reused", -1), ("u", "reused", -1), ("v", "once", -1)),
    ]
    assert next(t.profile for t in table.rows()) == {"age": 1}


@pytest.mark.parametrize("sent_ms", [4_070_908_800_000, None], ids=["its record too", "its record not"])
def test_a_clock_of_2099_moves_no_label_to_before_its_time(kafka_log: Any, sent_ms: int | None) -> None:
    far = 4_070_908_800_000
    table = kafka_log(
        [paid("t"), paid("now", event_time=NOW_MS), paid("far", event_time=far, sent_ms=sent_ms)],
        [label("t", 1, NOW_MS + 10 * DAY_MS), label("now", 1, far)],
    )
    assert found(table) == {("u", "t"): -1, ("u", "now"): -1}


@pytest.mark.parametrize("sent_ms", [0, 1_760_000_000, 4_070_908_800_000])
def test_a_record_whose_timestamp_is_no_time_is_learnt_from(kafka_log: Any, sent_ms: int) -> None:
    assert found(kafka_log([paid("t", sent_ms=sent_ms)], [])) == {("u", "t"): -1}


def test_a_record_on_another_partition_than_its_keys_is_not_learnt_from() -> None:
    def record(partition: int) -> Any:
        key, value, _ = paid(str(partition))
        return ConsumerRecord("t", partition, 0, NOW_MS, 0, key, value, None, 0, 0, [])

    for partitioner, wanted in (("murmur2", 1), ("crc32", 1), ("none", 8)):
        skipped = Skipped("t")
        settings = PantherSettings(partitions=8, partitioner=partitioner)  # type: ignore[arg-type]
        found = transactions_of([record(partition) for partition in range(8)], NOW_MS, settings, skipped)
        assert (len(found), skipped.count) == (wanted, 8 - wanted), partitioner
        assert "wrong_partition" in skipped.first or wanted == 8


def test_without_a_transaction_there_is_nothing_to_learn_from(kafka_log: Any) -> None:
    with pytest.raises(BadInput, match="nothing to learn from yet"):
        kafka_log([(b"u", b"{", None)], [label("t", 1, THEN_MS)])
