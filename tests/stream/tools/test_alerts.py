"""Alerts as people read them, from a real Kafka."""

from __future__ import annotations

import asyncio
import json
import uuid

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import Alert, ModelRef, Reason
from panther_core.kafka.answers import Skipped
from stream.faust_parts.producer import make_producer
from stream.tools import alerts as module
from stream.tools.alerts import Wanted, alert_of, alerts, line_of
from tests.topics import make_topics

_PAID_MS = int(np.datetime64("2026-11-27T10:12:03", "ms").astype(np.int64))


def alert(transaction: str, user: str = "ann", score: float = 0.9, **fields: object) -> Alert:
    known = {
        "transaction_id": transaction,
        "user_id": user,
        "event_time": _PAID_MS,
        "scored_at": 1,
        "latency_ms": 1,
        "score": score,
        "threshold": 0.5,
        "history_len": 3,
        "cold_start": False,
        "late": False,
        "degraded": None,
        "model": ModelRef("panther", 1),
        "alert_id": f"id-{transaction}",
        "merchant_id": "m1",
        "risk_score": 90,
        "risk_level": "critical",
        "reasons": [Reason("UNUSUAL_AMOUNT", "The amount, 412.00 EUR, is unlike what this user usually pays", 2.0)],
        "expected": [],
        "tokenizer_version": "x",
        "amount": 412.0,
        "currency": "EUR",
        "merchant_category": "jewellery",
    }
    return msgspec.convert(known | fields, Alert)


def test_a_line_says_what_was_paid_by_whom_and_why() -> None:
    assert line_of(alert("t1")) == (
        "2026-11-27 10:12:03 UTC  412.00 EUR at m1 (jewellery), user ann, payment t1: critical, score 0.900. "
        "The amount, 412.00 EUR, is unlike what this user usually pays."
    )
    plain = alert("t1", amount=None, merchant_category=None, reasons=[], degraded="rules")
    assert "amount unknown at m1, user ann" in line_of(plain)
    assert "score 0.900, by rules. no reason was given." in line_of(plain)


@pytest.fixture
def topic(kafka: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name, settings = f"alerts-{uuid.uuid4().hex[:8]}", KafkaSettings(bootstrap_servers=kafka)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setattr(module, "ALERTS", name)

    asyncio.run(make_topics(settings, [name], 2))
    return name


async def publish(kafka: str, topic: str, *values: bytes) -> None:
    async with make_producer(KafkaSettings(bootstrap_servers=kafka)) as producer:
        for value in values:
            await producer.send(topic, value, key=b"k")
        await producer.flush()


def test_one_alert_is_found_by_its_id_or_that_of_its_payment(kafka: str, topic: str) -> None:
    made = [alert("t1"), alert("t2"), alert("t2", "bob", alert_id="bobs")]
    asyncio.run(publish(kafka, topic, *map(msgspec.json.encode, made)))
    settings = KafkaSettings(bootstrap_servers=kafka)
    assert asyncio.run(alert_of(settings, "t1")).alert_id == "id-t1"
    assert asyncio.run(alert_of(settings, "bobs")).user_id == "bob"
    with pytest.raises(BadInput, match="alerts of several users"):
        asyncio.run(alert_of(settings, "t2"))
    with pytest.raises(BadInput, match="none that is still on the topic"):
        asyncio.run(alert_of(settings, "t9"))


def test_alerts_are_chosen_shown_once_and_in_order(kafka: str, topic: str) -> None:
    made = [
        alert("t2", scored_at=5),
        alert("t1", scored_at=3),
        alert("t3", "bob\x1b[2J", 0.6),
        alert("t2", scored_at=5),
    ]
    asyncio.run(publish(kafka, topic, *map(msgspec.json.encode, made), b"no alert"))

    def shown(*options: str) -> list[str]:
        done = CliRunner().invoke(app, ["alerts", "--json", *options], catch_exceptions=False)
        return [json.loads(line)["transaction_id"] for line in done.stdout.splitlines()]

    assert shown("--user", "ann") == ["t1", "t2"]
    assert shown("--min-score", "0.7", "--since", "2026-11-27") == ["t1", "t2"]
    assert shown("--since", "2026-11-28") == []
    people = CliRunner().invoke(app, ["alerts"], catch_exceptions=False)
    assert "payment t1: critical" in people.stdout
    assert "\x1b" not in people.stdout
    assert "2 of 5 records" in people.stderr, "one with a control character in its user, and one that is none"


def test_who_follows_sees_what_comes(kafka: str, topic: str) -> None:
    async def follow() -> list[str]:
        await publish(kafka, topic, msgspec.json.encode(alert("t1")))
        found = []
        wanted = Wanted(follow=True)
        async for one in alerts(KafkaSettings(bootstrap_servers=kafka), wanted, Skipped(topic)):
            found.append(one.transaction_id)
            if len(found) == 1:
                await publish(kafka, topic, msgspec.json.encode(alert("t1")), msgspec.json.encode(alert("t2")))
            else:
                break
        return found

    assert asyncio.run(asyncio.wait_for(follow(), 60)) == ["t1", "t2"]
