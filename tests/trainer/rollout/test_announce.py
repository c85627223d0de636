"""A version goes live only where the states that workers keep can be read by it."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.errors import FingerprintMismatch
from panther_core.base.settings import KafkaSettings
from trainer.rollout import announce as module
from trainer.rollout.announce import announce, previous, updates


@pytest.fixture
def settings(kafka: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """A broker with an empty topic for updates."""
    out = KafkaSettings(bootstrap_servers=kafka)
    topic = f"models-{uuid.uuid4().hex}"
    monkeypatch.setattr(module, "MODELS", topic)

    async def make() -> None:
        admin = AIOKafkaAdminClient(**out.client_options())
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()

    asyncio.run(make())
    return out


def live(settings: KafkaSettings) -> list[int]:
    return [update.version for update in asyncio.run(updates(settings))]


def other(manifest: Manifest, **changes: object) -> Manifest:
    return msgspec.structs.replace(manifest, version=2, **changes)


def test_versions_of_the_same_states_follow_each_other(settings: KafkaSettings, artifact_folder: Path) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, str(artifact_folder)))
    asyncio.run(announce(settings, other(manifest), "pruned since"))
    assert live(settings) == [1, 2]
    assert asyncio.run(previous(settings)).version == 1


@pytest.mark.parametrize(
    "changes",
    [{"schema_fingerprint": "f" * 64}, {"context_length": 77}, {"cached_width": 3}],
    ids=lambda c: next(iter(c)),
)
def test_a_version_for_other_states_is_refused(
    settings: KafkaSettings, artifact_folder: Path, changes: dict[str, object]
) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, str(artifact_folder)))
    with pytest.raises(FingerprintMismatch, match=r"version 1, which is live.*got version 2.*--new-states"):
        asyncio.run(announce(settings, other(manifest, **changes), str(artifact_folder)))
    assert live(settings) == [1]
    asyncio.run(announce(settings, other(manifest, **changes), str(artifact_folder), new_states=True))
    assert live(settings) == [1, 2]


def test_where_the_live_versions_folder_is_gone_the_schema_is_compared(
    settings: KafkaSettings, artifact_folder: Path
) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, "/nowhere/1"))
    with pytest.raises(FingerprintMismatch):
        asyncio.run(announce(settings, other(manifest, schema_fingerprint="f" * 64), str(artifact_folder)))
    asyncio.run(announce(settings, other(manifest), str(artifact_folder)))
