"""What is in use is not unloaded, whatever stands on `models.progress`. Kafka is real; Triton's answers are given."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.events import ModelProgress, ModelUpdate
from panther_core.kafka import updates
from tests.topics import make_topics
from trainer.rollout import announce, deploy
from trainer.rollout import retire as module
from trainer.rollout.retire import StillInUse, retire, unload

SETTINGS = PantherSettings(app_id="mine", partitions=2)


class Topics:
    """Both topics, and what was unloaded from the server, which has versions 1 to 5 in service."""

    def __init__(self, kafka: KafkaSettings, names: list[str]) -> None:
        self.kafka, self.names, self.unloaded = kafka, names, list[int]()

    def send(self, updates: list[Any], progress: list[Any]) -> None:
        """Put values on the topics: structs, or bytes as they are."""

        async def go() -> None:
            async with AIOKafkaProducer(**self.kafka.client_options()) as producer:
                for name, values in zip(self.names, (updates, progress), strict=True):
                    for value in values:
                        data = msgspec.json.encode(value) if isinstance(value, msgspec.Struct) else value
                        await producer.send_and_wait(name, data, key=b"k")

        asyncio.run(go())

    def retire(self, patience_s: float = 20, the_one_before_too: bool = False) -> list[int]:
        return retire(self.kafka, SETTINGS, Path("repository"), patience_s, the_one_before_too)


@pytest.fixture
def topics(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Topics:
    out = Topics(KafkaSettings(bootstrap_servers=kafka), [f"{n}-{uuid.uuid4().hex}" for n in ("models", "progress")])
    for place in (module, announce, updates):
        monkeypatch.setattr(place, "MODELS", out.names[0])
    monkeypatch.setattr(module, "PROGRESS", out.names[1])
    monkeypatch.setattr(deploy, "served", lambda *_: {name: [1, 2, 3, 4, 5] for name in deploy.MODELS})
    monkeypatch.setattr(deploy, "unload", lambda _url, _repository, version, _key: out.unloaded.append(version))

    asyncio.run(make_topics(out.kafka, out.names))
    return out


def live(version: int) -> ModelUpdate:
    return ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="", artifact="models")


def at(version: int, partition: int, app_id: str = "mine") -> ModelProgress:
    return ModelProgress(app_id=app_id, partition=partition, version=version, moved_at=1)


def test_versions_before_the_live_one_go_and_those_in_use_elsewhere_or_never_live_stay(topics: Topics) -> None:
    topics.send(
        [live(1), live(2), live(3), live(4)],
        [at(4, 0), at(2, 0, "other"), at(3, 1, "other"), at(2, 1, "other"), at(4, 1), None, b"", b"{}", b"\xff"],
    )
    assert topics.retire(the_one_before_too=True) == topics.unloaded == [1, 3]


def test_the_version_that_a_rollback_goes_to_stays_loaded(topics: Topics) -> None:
    topics.send([live(1), live(2), live(3), live(2), live(4)], [at(4, 0), at(4, 1)])
    assert topics.retire() == topics.unloaded == [1, 3], "4 took the place of 2, which 3 had been rolled back to"
    topics.unloaded.clear()
    assert topics.retire(the_one_before_too=True) == topics.unloaded == [1, 2, 3]


def test_a_version_that_is_live_is_not_unloaded_unless_forced(topics: Topics) -> None:
    topics.send([live(1), live(2), b"no update"], [])
    with pytest.raises(BadInput, match=r"got 2, which workers decide with.*--force"):
        unload(topics.kafka, SETTINGS, Path("repository"), 2)
    assert not topics.unloaded
    unload(topics.kafka, SETTINGS, Path("repository"), 1)
    unload(None, SETTINGS, Path("repository"), 2)
    assert topics.unloaded == [1, 2]


def test_a_version_that_went_live_meanwhile_is_not_unloaded(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    topics.send([live(1), live(2)], [at(2, 0), at(2, 1)])

    def switch(*_: object) -> dict[str, list[int]]:
        topics.send([live(1)], [])  # somebody rolls back while Triton is asked
        return {name: [1, 2] for name in deploy.MODELS}

    monkeypatch.setattr(deploy, "served", switch)
    with pytest.raises(BadInput, match="got 1, which workers decide with"):
        topics.retire(the_one_before_too=True)
    assert not topics.unloaded


def test_the_word_of_a_worker_is_no_report_of_a_partition(topics: Topics) -> None:
    topics.send([live(1), live(2)], [at(2, 0), at(2, -1)])
    with pytest.raises(StillInUse, match=r"partitions \[1\]"):
        topics.retire(patience_s=0)


def test_what_another_application_decides_with_stays_though_its_sweep_is_not_over(topics: Topics) -> None:
    """It refuses the live version, whose states are others, and its users are on their way from 1 to 2."""
    word, refusal = at(2, -1, "other"), msgspec.structs.replace(at(3, -1, "other"), problem="another schema")
    topics.send(
        [live(1), live(2), live(3), live(4)],
        [at(1, 0, "other"), at(1, 1, "other"), word, refusal, at(4, 0), at(4, 1)],
    )
    assert topics.retire(the_one_before_too=True) == topics.unloaded == [3]
