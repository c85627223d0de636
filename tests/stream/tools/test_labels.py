"""Labels from people and files to a real Kafka, and labels sent with a log as they fall due."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import BadInput, InvalidFile
from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS
from panther_core.data.decision import Decision, ModelRef
from panther_core.data.events import Label
from panther_core.data.table import TransactionTable
from panther_core.kafka.reading import read_topic
from stream.faust_parts.producer import make_producer
from stream.tools import labels as module
from stream.tools import produce
from stream.tools.labels import labels_of
from tests.topics import make_topics

Sent = Callable[[], list[Label]]


@pytest.fixture
def own(kafka: str, monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaSettings, dict[str, str]]:
    """Topics of this test's own."""
    settings, mark = KafkaSettings(bootstrap_servers=kafka), uuid.uuid4().hex[:8]
    names = {name: f"{name.lower()}-{mark}" for name in ("LABELS", "SCORES", "TRANSACTIONS")}
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    for name in ("LABELS", "SCORES", "TRANSACTIONS"):
        monkeypatch.setattr(module, name, names[name])
    for name in ("LABELS", "TRANSACTIONS"):
        monkeypatch.setattr(produce, name, names[name])

    asyncio.run(make_topics(settings, names.values(), 2))
    return settings, names


def sent(own: tuple[KafkaSettings, dict[str, str]]) -> list[Label]:
    records = asyncio.run(read_topic(own[0], own[1]["LABELS"]))
    for record in records:
        assert record.key == msgspec.json.decode(record.value or b"")["user_id"].encode()
    return [msgspec.json.decode(record.value or b"", type=Label) for record in records]


def run(*argv: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*argv, "--json"], catch_exceptions=False)
    out: dict[str, Any] = json.loads(done.stdout)
    return out


def decided(user: str, transaction: str) -> Decision:
    return Decision(transaction, user, 1, 1, 1, 0.5, 0.9, False, 0, True, False, None, ModelRef("panther", 1))


def test_an_analyst_s_word_goes_to_the_payment_s_user(own: tuple[KafkaSettings, dict[str, str]]) -> None:
    async def publish() -> None:
        async with make_producer(own[0]) as producer:
            for user, transaction in (("ann", "t1"), ("bob", "both"), ("cat", "both")):
                value = msgspec.json.encode(decided(user, transaction))
                await producer.send(own[1]["SCORES"], value, key=user.encode())
            await producer.send(own[1]["SCORES"], b"t1 in no JSON", key=b"x")
            await producer.flush()

    asyncio.run(publish())
    assert run("label", "t1", "fraud", "--at", "2026-01-01T00:00:00Z")["user"] == "ann"
    run("label", "both", "honest", "--user", "cat", "--source", "phone")
    first, second = sorted(sent(own), key=lambda one: one.user_id)
    assert (first.user_id, first.label, first.label_time) == ("ann", 1, 1_767_225_600_000)
    assert (second.user_id, second.transaction_id, second.label, second.source) == ("cat", "both", 0, "phone")
    for transaction, message in (("both", "2 users have one"), ("t9", "no decision")):
        with pytest.raises(BadInput, match=f"{message}.*--user"):
            run("label", transaction, "fraud")


def test_a_file_of_labels(own: tuple[KafkaSettings, dict[str, str]], tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "transaction_id,user_id,label,label_time\na,u,fraud,2026-01-01T00:00:00Z\nb,v,no,2026-01-02T00:00:00Z\n"
    )
    assert run("labels", "send", str(file)) == {"sent": 2, "frauds": 1, "honest": 1}
    assert {(one.transaction_id, one.label, one.label_time) for one in sent(own)} == {
        ("a", 1, 1_767_225_600_000),
        ("b", 0, 1_767_312_000_000),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transaction_id,label\na,1\n", "expected a column 'user_id'"),
        ("transaction_id,user_id,label\na,u,maybe\n", r"row 1, column 'label': expected one of 1, true"),
        ("transaction_id,user_id,label\na,u,1\nb,,1\n", r"row 2, column 'user_id': expected a value"),
        ("transaction_id,user_id,label\na,u,\n", r"row 1, column 'label'"),
        ("transaction_id,user_id,label,label_time\na,u,1,1767225600\n", "row 1, column 'label_time': expected a time"),
    ],
)
def test_a_file_with_a_row_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(InvalidFile, match=message):
        labels_of(file, "file", 1)


def test_labels_of_a_log_are_sent_as_they_fall_due(
    own: tuple[KafkaSettings, dict[str, str]], log: TransactionTable
) -> None:
    table = log.take(slice(0, 400))
    delay_ms = (int(table.time_ms[-1]) - int(table.time_ms[0])) // 3
    done, told = asyncio.run(produce.produce_with_labels(own[0], table, 2000, delay_ms))
    due = (table.label >= 0) & (table.time_ms + delay_ms <= table.time_ms[-1])
    assert (done.count, told) == (400, int(due.sum()))
    assert 0 < told < 400
    got = {(one.transaction_id, one.label_time) for one in sent(own)}
    assert got == {
        (str(t), int(at) + delay_ms) for t, at in zip(table.transaction_id[due], table.time_ms[due], strict=True)
    }
    assert delay_ms > DAY_MS


def test_of_frauds_alone_the_others_are_honest_once_they_are_old_enough(
    own: tuple[KafkaSettings, dict[str, str]], tmp_path: Path
) -> None:
    """A label of its own for each, as of the day on which it matured; sent again, nothing is new."""
    start = 1_750_000_000_000
    paid = [("u", "t1", 0), ("u", "t2", 10), ("v", "t1", 20), ("v", "t3", 39), ("w", "t4", 40)]

    async def pay() -> None:
        async with make_producer(own[0]) as producer:
            for user, name, day in paid:
                payment = {"transaction_id": name, "user_id": user, "merchant_id": "m", "amount": 5}
                payment |= {"event_time": start + day * DAY_MS}
                payment |= dict.fromkeys(("merchant_category", "currency", "channel"), "x")
                value = msgspec.json.encode(payment)
                await producer.send_and_wait(own[1]["TRANSACTIONS"], value, key=user.encode(), partition=len(user) % 2)
            await producer.send_and_wait(own[1]["TRANSACTIONS"], b"no payment", key=b"u", partition=0)

    asyncio.run(pay())
    file = tmp_path / "frauds.csv"
    file.write_text(f"transaction_id,user_id,label,label_time\nt2,u,fraud,{start + 12 * DAY_MS}\n")
    argv = ["labels", "send", str(file), "--others", "honest", "--label-delay-days", "7", "--json"]
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert json.loads(done.stdout) == {"sent": 1, "frauds": 1, "honest": 0, "others_honest": 2}
    found = {(one.user_id, one.transaction_id): (one.label, (one.label_time - start) // DAY_MS) for one in sent(own)}
    assert found == {("u", "t2"): (1, 12), ("u", "t1"): (0, 7), ("v", "t1"): (0, 27)}
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert json.loads(done.stdout)["others_honest"] == 0
    assert CliRunner().invoke(app, [*argv[:4], "frauds"]).exit_code == 2
