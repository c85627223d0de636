"""Which version a decision came from is known to a worker that started after it, too."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate
from stream.worker.live_models import LiveModels


def update(version: int, folder: Path) -> bytes:
    """As it stands on `models.updates`."""
    return msgspec.json.encode(
        ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="", artifact=str(folder))
    )


def as_version(version: int, artifact: Path, folder: Path) -> None:
    """Copy an artifact under another version's number."""
    shutil.copytree(artifact, folder)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    manifest["version"] = version
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


@pytest.fixture
def models(artifact_folder: Path, tmp_path: Path) -> LiveModels:
    """Version 7 was live, then version 1, the artifact; a worker that starts now applies the last update only."""
    as_version(7, artifact_folder, tmp_path / "7")
    out = LiveModels(KafkaSettings())
    updates = [update(7, tmp_path / "7"), update(3, tmp_path / "none"), update(1, artifact_folder)]
    for value in updates:
        out._note(value)
    out._begin(updates)
    return out


def test_a_version_from_before_the_start_is_read_when_it_is_asked_for(models: LiveModels) -> None:
    assert models.version(1).live.version == 1
    assert models.version(7).live.version == 7
    assert models.version(7) is models.version(7)


def test_a_version_that_cannot_be_read_any_more_is_the_live_one(models: LiveModels) -> None:
    assert models.version(3).live.version == 1
    assert models.version(0).live.version == 1


def test_a_start_takes_the_newest_version_that_can_be_served(artifact_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(artifact_folder, broken)
    (broken / "manifest.json").write_text("[]")
    out = LiveModels(KafkaSettings())
    out._begin([update(1, artifact_folder), b"no update", update(2, tmp_path / "pruned"), update(3, broken)])
    assert out.now is not None
    assert out.now.live.version == 1


def test_the_topic_is_followed_beyond_what_it_held_at_the_start(
    kafka: str, monkeypatch: pytest.MonkeyPatch, artifact_folder: Path, tmp_path: Path
) -> None:
    settings, topic = KafkaSettings(bootstrap_servers=kafka), f"models-{uuid.uuid4().hex}"
    monkeypatch.setattr("stream.worker.live_models.MODELS", topic)
    versions = {1: artifact_folder, 2: tmp_path / "2", 3: tmp_path / "3"}
    for version in (2, 3):
        as_version(version, artifact_folder, versions[version])

    async def go() -> list[int]:
        admin = AIOKafkaAdminClient(**settings.client_options())
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        models, seen = LiveModels(settings), []
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for version in (1, 2):
                await producer.send_and_wait(topic, update(version, versions[version]))
            following = asyncio.create_task(models.run())
            seen.append((await models.current()).live.version)
            await producer.send_and_wait(topic, update(3, versions[3]))
            while models.now and models.now.live.version != 3:  # noqa: ASYNC110 - nothing tells of a switch
                await asyncio.sleep(0.02)
        seen += [models.version(1).live.version, (await models.current()).live.version]
        following.cancel()
        return seen

    assert asyncio.run(asyncio.wait_for(go(), 30)) == [2, 1, 3]
