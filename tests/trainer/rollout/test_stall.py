"""A version with which workers stop deciding is taken back, and a quiet stream is no such version's. Kafka is real."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.decision import Decision, ModelRef
from panther_core.data.events import ModelUpdate
from panther_core.data.topics import MODELS, PROGRESS, SCORES, all_topics
from panther_core.kafka import updates
from panther_core.kafka.answers import headers_of
from tests.topics import make_topics
from trainer.rollout import decided, watch
from trainer.rollout.checks import Check, refusals
from trainer.rollout.watch import Look, judge_stall

SETTINGS = PantherSettings(app_id="mine")


def looks(came: float, answered: float, seconds: int = 60) -> list[Look]:
    """A look each five seconds at a stream of so many payments and answers a second."""
    return [Look(at, round(came * at), round(answered * at)) for at in range(0, seconds + 1, 5)]


@pytest.mark.parametrize(
    ("stream", "before", "held"),
    [
        (looks(20, 0), 1000, [False]),
        (looks(20, 20), 1000, [True]),
        (looks(20, 5), 1000, [True]),  # a worker that is behind, or records of others, as transactions' markers are
        (looks(20, 0), 299, []),  # nobody decided before either
        (looks(9, 0, 45), 1000, []),  # 270 payments
        (looks(2, 0, 170), 1000, [False]),
        (looks(2, 2, 170), 1000, [True]),
        (looks(20, 0, 40), 1000, []),  # too early to say
    ],
    ids=["stalled", "well", "slow", "never decided", "quiet", "stalled at night", "well at night", "early"],
)
def test_a_stall_is_told_from_a_quiet_stream(stream: Sequence[Look], before: int, held: list[bool]) -> None:
    assert [check.held for check in judge_stall(stream, before)] == held


def test_decisions_that_come_late_are_waited_for() -> None:
    started_anew = [Look(look.at_s, look.came, look.answered if look.at_s < 30 else 600) for look in looks(20, 20, 44)]
    assert refusals(judge_stall([*started_anew, Look(45, 900, 600)], 1000)) == [], "a worker that starts takes seconds"


@pytest.fixture
def topics(kafka: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    names = {name: f"{name}-{uuid.uuid4().hex}" for name in ("MODELS", "SCORES", "TRANSACTIONS", "DEAD_LETTERS")}
    monkeypatch.setattr(updates, "MODELS", names["MODELS"])
    monkeypatch.setattr(decided, "SCORES", names["SCORES"])
    for name in ("TRANSACTIONS", "DEAD_LETTERS"):
        monkeypatch.setattr(watch, name, names[name])
    for name, value in {"_EVERY_S": 0.05, "_STALLED_S": 2.0, "_PATIENCE_S": 1.0}.items():
        monkeypatch.setattr(watch, name, value)

    asyncio.run(make_topics(KafkaSettings(bootstrap_servers=kafka), names.values()))
    return names


def decision(number: int, version: int = 1, alert: bool = False) -> bytes:
    made = Decision(
        transaction_id=f"t{number}",
        user_id="u",
        event_time=number,
        scored_at=number,
        latency_ms=1,
        score=0.1,
        threshold=0.5,
        alert=alert,
        history_len=3,
        cold_start=False,
        late=False,
        degraded=None,
        model=ModelRef("panther", version),
    )
    return msgspec.json.encode(made)


@pytest.mark.parametrize("refused", [False, True], ids=["stalled", "refused as dead letters"])
def test_a_watch_finds_that_nothing_is_decided(kafka: str, topics: dict[str, str], refused: bool) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka)
    update = ModelUpdate(name="panther", version=2, threshold=0.5, schema_fingerprint="", artifact="2")

    async def send(name: str, values: Sequence[bytes]) -> None:
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            headers = headers_of("mine", 0, 0)
            for sent in [await producer.send(topics[name], value, headers=headers) for value in values]:
                await sent

    asyncio.run(send("MODELS", [msgspec.json.encode(update)]))
    asyncio.run(send("SCORES", [decision(number) for number in range(400)]))
    switched_ms = time.time_ns() // 1_000_000 + 1

    def watched() -> list[Check]:
        return watch.watch(settings, SETTINGS, 2, switched_ms, 8 if refused else 90, 0.01, None)

    async def stream() -> None:
        while not found.done():
            letters = [send("DEAD_LETTERS", [b"letter"] * 500)] if refused else []
            await asyncio.gather(send("TRANSACTIONS", [b"payment"] * 500), *letters)
            await asyncio.sleep(0.2)

    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(watched)
        time.sleep(0.5)  # a look before the first payment
        asyncio.run(stream())
        checks = found.result(60)
    against = [check.check for check in checks if not check.held]
    assert against == ([] if refused else ["live_decided"])


def test_a_clock_ahead_of_the_brokers_does_not_end_the_watch(
    kafka: str, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine of whoever watches is an hour ahead: the version has its time all the same, and fails in it."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    asyncio.run(make_topics(settings, [scores := f"appended-{uuid.uuid4().hex}"], **topic_of(SCORES)))
    monkeypatch.setattr(decided, "SCORES", scores)
    monkeypatch.setattr(watch, "_SETTLE_MS", 0)
    update = ModelUpdate(name="panther", version=2, threshold=0.5, schema_fingerprint="", artifact="2")

    async def send(name: str, values: Sequence[bytes]) -> int:
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            headers = headers_of("mine", 0, 0)
            sent = [await producer.send_and_wait(name, value, headers=headers) for value in values]
            return sent[-1].timestamp

    asyncio.run(send(topics["MODELS"], [msgspec.json.encode(update)]))
    switched_ms = asyncio.run(send(scores, [decision(0)])) + 1
    actual = time.time
    monkeypatch.setattr(time, "time", lambda: actual() + 3600)
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(watch.watch, settings, SETTINGS, 2, switched_ms, 60, 0.01, None)
        time.sleep(0.5)
        asyncio.run(send(scores, [decision(number, 2, alert=True) for number in range(400)]))
        assert [check.check for check in found.result(60) if not check.held] == ["live_alert_rate"]


@pytest.mark.parametrize("name", [MODELS, PROGRESS, SCORES])
def test_the_moment_of_a_switch_and_the_decisions_beside_it_are_by_one_clock(name: str) -> None:
    assert topic_of(name)["message.timestamp.type"] == "LogAppendTime"


def topic_of(name: str) -> dict[str, str]:
    return next(topic.config for topic in all_topics(PantherSettings()) if topic.name == name)
