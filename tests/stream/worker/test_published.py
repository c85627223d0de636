"""What was published before an interruption is read back from the end of a real topic, as far as it is needed."""

from __future__ import annotations

import asyncio
import uuid

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import Decision, ModelRef
from panther_core.kafka.answers import headers_of
from stream.worker import published as module
from stream.worker.published import Published


def decision(offset: int, score: float) -> bytes:
    made = Decision(
        transaction_id=f"t{offset}", user_id="u", event_time=0, scored_at=1, latency_ms=1, score=score, threshold=0.5,
        alert=False, history_len=0, cold_start=False, late=False, degraded=None, model=ModelRef("panther", 1),
    )  # fmt: skip
    return msgspec.json.encode(made)


def test_the_first_decision_that_this_application_published_stands(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, name = KafkaSettings(bootstrap_servers=kafka), uuid.uuid4().hex
    monkeypatch.setattr(module, "SCORES", f"scores-{name}")
    monkeypatch.setattr(module, "ALERTS", f"alerts-{name}")
    monkeypatch.setattr(module, "_CHUNK", 3)
    monkeypatch.setattr(module, "_SLACK", 4)

    async def go() -> list[float | None]:
        admin = AIOKafkaAdminClient(**settings.client_options())
        await admin.start()
        await admin.create_topics([NewTopic(f"{kind}-{name}", 2, 1) for kind in ("scores", "alerts")])
        await admin.close()
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            written = [("own", i, 0.1) for i in range(20)] + [("own", 18, 0.2), ("other", 19, 0.3), ("other", 20, 0.3)]
            for app, offset, score in written:
                headers = headers_of(app, 1, offset)
                await producer.send_and_wait(f"scores-{name}", decision(offset, score), partition=1, headers=headers)
        published = Published(settings, "own")
        await published.read_back({0: 0, 1: 17}, generation=1)
        places = [(1, offset) for offset in range(15, 21)]
        found = published.take(places)
        assert published.take(places) == {}
        await published.read_back({1: 17}, generation=1)
        assert published.take(places) == {}  # once in a generation
        return [float(found[i]["score"]) if i in found else None for i in range(len(places))]

    assert asyncio.run(go()) == [None, None, 0.1, 0.1, 0.1, None]
