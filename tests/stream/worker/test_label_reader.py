"""Which label of a payment counts, and what its merchant is told. Reader and stream: tests/e2e/test_stream.py."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from aiokafka import TopicPartition
from faust.types import TP
from rocksdict import Options, Rdict

from panther_core.data.events import Label
from panther_core.data.merchant_events import MerchantEvent
from panther_core.data.table import hash_words
from panther_core.data.topics import TRANSACTIONS
from stream.worker.decided import keys_of
from stream.worker.label_reader import LabelReader, _readable, _told
from stream.worker.paid import PREFIX, Paid, key_of, paid_pairs, read_paid
from stream.worker.state_store import StateStore

_DAY = 1_700_000_000_000


def kept(merchant: str = "shop ü") -> tuple[bytes, Paid]:
    """A payment as the worker keeps it."""
    hashes = np.zeros(1, [("user", "<u8"), ("transaction", "<u8")])
    hashes["user"], hashes["transaction"] = hash_words(["u"]), hash_words(["t"])
    one = np.array([_DAY])
    ((key, value),) = paid_pairs(keys_of(hashes), [merchant], one, one, np.array([2.5], np.float32))
    return key, read_paid(value)


def label(value: int, days: int) -> Label:
    return Label(transaction_id="t", user_id="u", label=value, label_time=_DAY + days * 86_400_000, source="s")


def record(offset: int, **changes: Any) -> Any:
    """A record that the broker got long after its label_time."""
    value = msgspec.to_builtins(label(1, 3)) | changes
    return SimpleNamespace(
        topic="fraud.labels", partition=1, offset=offset, key=b"u", value=msgspec.json.encode(value),
        timestamp=_DAY + 90 * 86_400_000,
    )  # fmt: skip


def test_a_label_finds_its_payment_by_user_and_transaction() -> None:
    key, paid = kept()
    assert key == key_of(label(1, 3))
    assert key.startswith(PREFIX)
    event = _told(paid, label(1, 3), record(7))
    assert event is not None
    assert (event.merchant_id, event.event_time, event.ratio) == ("shop ü", _DAY, 2.5)
    assert event.label_time == label(1, 3).label_time
    assert (event.label, event.label_before, event.source.partition, event.source.at) == (1, None, 1, 7)
    assert read_paid(paid.value).row["label"] == 1


def test_of_several_labels_the_newest_by_label_time_counts() -> None:
    paid = kept()[1]
    assert _told(paid, label(1, 3), record(7)) is not None
    assert _told(paid, label(1, 5), record(8)) is None, "nothing new"
    assert _told(paid, label(0, 2), record(9)) is None, "older"
    event = _told(paid, label(0, 5), record(10))
    assert event is not None
    assert (event.label, event.label_before) == (0, 1)
    assert _told(paid, label(1, 6), record(7)) is None, "a crash hands it out again, after a newer one was told"
    assert _told(paid, label(0, 9), record(11)) is None, "it only confirms what is known"
    assert _told(paid, label(1, 8), record(12)) is None, "older than what confirmed the other"


def test_any_word_counts_more_than_that_nobody_reported_the_payment() -> None:
    """A fraud that was known on day 3 may be sent after the payment had matured on day 30."""
    paid, old = kept()[1], msgspec.structs.replace(label(0, 30), source="matured")
    assert _told(paid, old, record(7)) is not None
    event = _told(paid, label(1, 3), record(8))
    assert event is not None
    assert (event.label, event.label_before) == (1, 0)
    assert _told(paid, msgspec.structs.replace(label(0, 40), source="matured"), record(9)) is None
    chargeback, rule = (msgspec.structs.replace(label(i, 3), source=s) for i, s in ((0, "chargeback"), (1, "rule")))
    assert _told(paid, chargeback, record(10)) is not None, "of one time the source counts"
    assert _told(paid, rule, record(11)) is None


@pytest.mark.parametrize(
    "changes",
    [{"user_id": "another"}, {"label": 2}, {"label_time": _DAY + 92 * 86_400_000}, {"label_time": 5}, {"label": None}],
)
def test_a_record_that_is_no_label_is_skipped(changes: dict[str, Any]) -> None:
    assert _readable(record(0)) == label(1, 3)
    assert _readable(record(0, **changes)) is None


def test_a_payment_that_a_crash_hands_out_again_keeps_its_merchant_and_its_label() -> None:
    key, paid = kept()
    assert _told(paid, label(1, 3), record(7)) is not None
    one, ratio = np.array([_DAY]), np.array([2.5], np.float32)
    ((_, again),) = paid_pairs([key[len(PREFIX) :]], ["shop ü"], one, one + 5, ratio, [paid.value])
    assert again == paid.value
    ((_, other),) = paid_pairs([key[len(PREFIX) :]], ["another"], one, one, ratio, [paid.value])
    assert read_paid(other).merchant_id == "", "nobody knows which of two payments a label means"
    assert read_paid(other).row["label"] == 1, "what was told stays told"
    ((_, later),) = paid_pairs([key[len(PREFIX) :]], ["shop ü"], one + 1, one, ratio, [paid.value])
    assert read_paid(later).merchant_id == ""


def test_payments_are_forgotten_when_no_label_can_come_any_more(tmp_path: Path) -> None:
    """Some thousand payments of two ages, a user's state and another key: only old payments go."""
    store = Rdict(str(tmp_path), Options(raw_mode=True))
    now = time.time_ns() // 1_000_000
    ages = np.where(np.arange(5000) % 3 == 0, 91, 1)
    for i, age in enumerate(ages.tolist()):
        one = np.array([now - age * 86_400_000])
        ((key, value),) = paid_pairs([i.to_bytes(16, "big")], ["m"], one, one, np.ones(1, np.float32))
        store[key] = value
    store[b"user"], store[b"\0source"] = b"state", b"mark"
    table: Any = SimpleNamespace(
        data=SimpleNamespace(_db_for_partition=lambda _: store, partition_path=lambda _: tmp_path),
        changelog_topic_name="changelog",
    )
    sent: list[tuple[bytes, bytes | None]] = []

    class Changelog:
        async def send_all(self, topic: str, partition: int, records: list[Any]) -> Any:
            sent.extend((key, value) for key, value, _ in records)
            return asyncio.get_running_loop().create_future()

    async def put(batch: Any) -> None:
        pass

    consumer = SimpleNamespace(assignment=lambda: {TP(TRANSACTIONS, 0)})
    app: Any = SimpleNamespace(rebalancing=False, consumer_generation_id=1, consumer=consumer)
    acker: Any = SimpleNamespace(put=put)
    changelog: Any = Changelog()
    none: Any = None
    reader = LabelReader(app, none, table, StateStore(table, changelog), acker, none, kept_days=90)
    asyncio.run(reader.forget_now())
    assert len(sent) == int((ages == 91).sum())
    assert all(value is None for _, value in sent)
    kept = [key for key in store.keys() if key.startswith(PREFIX)]  # noqa: SIM118 - no dict
    assert len(kept) == int((ages == 1).sum())
    assert (store[b"user"], store[b"\0source"]) == (b"state", b"mark")
    store.close()


def test_a_label_may_come_before_its_payment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that Kafka held up may send it first: the label is looked at again, and nothing is committed past it."""
    store, (key, paid), at = Rdict(str(tmp_path), Options(raw_mode=True)), kept(), TopicPartition("fraud.labels", 1)
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("stream.worker.label_reader.time", clock)
    table: Any = SimpleNamespace(
        data=SimpleNamespace(_db_for_partition=lambda _: store, partition_path=lambda _: tmp_path),
        changelog_topic_name="changelog",
    )
    told, committed, sought = list[MerchantEvent](), list[int](), list[int]()

    async def done(*_: Any, **__: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result([])
        return future

    async def send(events: list[MerchantEvent]) -> list[Any]:
        told.extend(events)
        return []

    class Consumer:
        def __init__(self) -> None:
            self.records, self.at = list[Any](), 0

        def assignment(self) -> set[TopicPartition]:
            return {at}

        async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
            new, self.records = self.records, []
            self.at = new[-1].offset + 1 if new else self.at
            return {at: new}

        async def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(parts, 0)

        async def position(self, _: TopicPartition) -> int:
            return self.at

        async def commit(self, offsets: dict[TopicPartition, int]) -> None:
            committed.extend(offsets.values())

        def seek(self, _: TopicPartition, offset: int) -> None:
            sought.append(offset)

    source, consumer, none = Consumer(), SimpleNamespace(_settled={TP(TRANSACTIONS, 1): 0}), None
    app: Any = SimpleNamespace(rebalancing=False, consumer_generation_id=1, consumer=consumer)
    acker: Any = SimpleNamespace(put=done)
    changelog: Any = SimpleNamespace(send_all=done)
    merchants: Any = SimpleNamespace(send=send)
    reader = LabelReader(app, cast(Any, none), table, StateStore(table, changelog), acker, merchants, kept_days=90)

    def turn(*records: Any) -> list[MerchantEvent]:
        source.records = [*records]
        asyncio.run(reader._turn(cast(Any, source)))
        return [told.pop(0) for _ in range(len(told))]

    assert turn(record(7)) == []
    assert committed == [7], "not past a label that waits"
    store[key] = paid.value
    assert turn() == [], "looked at again a second later"
    clock.monotonic = lambda: 101.0
    assert [event.source.at for event in turn()] == [7]
    assert committed == [7, 8]
    del store[key]
    assert turn(record(8, transaction_id="never"), record(9, label=0)) == []
    assert committed == [7, 8, 8][: len(committed)], "the same offset is not committed again"
    app.consumer_generation_id = 2
    app.rebalancing = True
    assert turn() == []
    assert sought == [8], "the labels that waited come again"
    app.rebalancing = False
    assert turn(record(8, transaction_id="never"), record(9, label=0)) == []
    clock.monotonic = lambda: 162.0
    assert turn() == [], "given up after a minute"
    assert committed[-1] == 10
    store.close()


def test_a_label_waits_for_what_the_last_fetch_has_not_told_of_yet() -> None:
    """After a stop a label may be read before the fetch that brings its payment: by the last fetch nothing lags."""
    at, order = TP(TRANSACTIONS, 0), list[str]()
    settled = {at: 7}

    class Ends:
        async def end_offsets(self, parts: list[Any]) -> dict[Any, int]:
            order.append("end asked")
            return dict.fromkeys(parts, 9)

    state = SimpleNamespace(position=7, highwater=7, lso=7, has_valid_position=True)
    held = SimpleNamespace(assignment=SimpleNamespace(tps={at}, state_value=lambda _: state))
    thread = SimpleNamespace(_subscription=SimpleNamespace(subscription=held))

    async def committed(*_: Any) -> int:
        return 7

    thread._ensure_consumer, thread.call_thread = lambda: SimpleNamespace(committed=None), committed
    thread._consumer = thread
    consumer = SimpleNamespace(assignment=lambda: {at}, _handed={}, _settled=settled, _thread=thread)
    app: Any = SimpleNamespace(rebalancing=False, consumer_generation_id=1, consumer=consumer)
    none: Any = None
    acker: Any = SimpleNamespace(unfinished=0)
    reader = LabelReader(app, none, none, none, acker, none, kept_days=90)

    async def wait() -> None:
        ends: Any = Ends()
        waiting = asyncio.create_task(reader._decided(ends, 0, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "records 7 and 8 are not decided"
        order.append("decided")
        settled[at] = 9
        assert await asyncio.wait_for(waiting, 5)

    asyncio.run(wait())
    assert order == ["end asked", "decided"]
