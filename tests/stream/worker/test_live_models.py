"""Which version a decision came from is known to a worker that started after it, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate
from stream.worker.live_models import LiveModels


def update(version: int, folder: Path) -> bytes:
    """As it stands on `models.updates`."""
    return msgspec.json.encode(
        ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="", artifact=str(folder))
    )


@pytest.fixture
def models(artifact_folder: Path, tmp_path: Path) -> LiveModels:
    """Version 7 was live, then version 1, the artifact; a worker that starts now applies the last update only."""
    shutil.copytree(artifact_folder, tmp_path / "7")
    manifest = msgspec.json.decode((tmp_path / "7" / "manifest.json").read_bytes())
    manifest["version"] = 7
    (tmp_path / "7" / "manifest.json").write_bytes(msgspec.json.encode(manifest))
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
