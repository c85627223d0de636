"""`panther models promote` says what the workers said: taken, refused and why, or nothing."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.kafka import updates
from panther_core.kafka.reading import read_topic
from stream.worker import live_models
from stream.worker.live_models import LiveModels
from stream.worker.worker_name import worker_name
from tests.topics import make_topics
from trainer.rollout import announce, go_live
from trainer.rollout.checks import Check
from trainer.rollout.go_live import Taken, promote, refused_by, take_back, watch_or_go_back

SETTINGS = PantherSettings(app_id="mine")


@pytest.fixture
def kafka_settings(kafka: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=kafka)
    models, progress = (f"{name}-{uuid.uuid4().hex}" for name in ("models", "progress"))
    for place in (live_models, announce, updates):
        monkeypatch.setattr(place, "MODELS", models)
    for other in (live_models, go_live):
        monkeypatch.setattr(other, "PROGRESS", progress)

    asyncio.run(make_topics(settings, (models, progress)))
    return settings


@contextmanager
def workers(
    settings: KafkaSettings, count: int, monkeypatch: pytest.MonkeyPatch, names: Sequence[str] = ()
) -> Iterator[None]:
    """So many followers of the topic, or one of each of the `names`; `count` of them are members of the application's
    group."""
    loop = asyncio.new_event_loop()

    async def counted(_kafka: KafkaSettings, group: str) -> int:
        return count if group == "mine" else 0

    async def follow() -> None:
        await asyncio.gather(*(LiveModels(settings, "mine", name=name).run() for name in names or [""] * count))

    monkeypatch.setattr(go_live, "members", counted)
    with ThreadPoolExecutor(1) as threads:
        task = loop.create_task(follow())

        def run() -> None:
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)

        running = threads.submit(run)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(task.cancel)
            running.result()
            loop.close()


def test_every_worker_gives_its_word(
    kafka_settings: KafkaSettings, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(artifact_folder)
    with workers(kafka_settings, 2, monkeypatch):
        taken = promote(kafka_settings, SETTINGS, manifest, str(artifact_folder), patience_s=60)
        assert taken == Taken(1, str(artifact_folder), 2, 2, [])
        assert taken.ok
        # as where the operator's path is not the workers'
        unseen = promote(
            kafka_settings, SETTINGS, msgspec.structs.replace(manifest, version=2), "/not/of/the/workers", patience_s=5
        )
        assert (unseen.workers, unseen.taken, unseen.ok) == (2, 0, False)
        assert "/not/of/the/workers/manifest.json" in unseen.refused[0]
        other = shutil.copytree(artifact_folder, tmp_path / "3")
        refused = promote(
            kafka_settings, SETTINGS, msgspec.structs.replace(manifest, version=3), str(other), patience_s=60
        )
        assert not refused.ok
        assert "expected model version 3" in refused.refused[0]
    # whoever was killed while it waited for their words finds them
    monkeypatch.setattr(go_live, "_AGAIN_S", 1.0)
    assert [refused_by(kafka_settings, SETTINGS, version) for version in (1, 2, 3)] == [
        [],
        unseen.refused,
        refused.refused,
    ]


def test_a_worker_that_starts_again_gives_one_word(
    kafka_settings: KafkaSettings, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two workers one has given its word twice, and the other one none."""
    manifest, name = load_manifest(artifact_folder), worker_name(tmp_path / "worker")
    assert worker_name(tmp_path / "worker") == name != worker_name(tmp_path / "other")
    with workers(kafka_settings, 2, monkeypatch, names=(name, name)):
        taken = promote(kafka_settings, SETTINGS, manifest, str(artifact_folder), patience_s=5)
    assert (taken.workers, taken.taken, taken.ok) == (2, 1, False)


def test_a_watch_begins_when_a_worker_has_taken_the_version(
    kafka_settings: KafkaSettings, artifact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, manifest = list[int](), load_manifest(artifact_folder)

    def noted(
        _kafka: KafkaSettings, _settings: PantherSettings, version: int, since_ms: int, *_: object
    ) -> list[Check]:
        assert version == manifest.version
        began.append(since_ms)
        return []

    async def said() -> list[int]:
        return [record.timestamp for record in await read_topic(kafka_settings, go_live.PROGRESS)]

    async def announced() -> list[int]:
        return [record.timestamp for record, _ in await updates.updates_with_records(kafka_settings)]

    monkeypatch.setattr("trainer.rollout.watch.watch", noted)
    asyncio.run(announce.announce(kafka_settings, manifest, str(artifact_folder)))
    watch_or_go_back(kafka_settings, SETTINGS, artifact_folder, artifact_folder, 600)
    assert began == asyncio.run(announced()), "nobody has taken it"
    time.sleep(1)  # as a worker that shows it its users first
    with workers(kafka_settings, 1, monkeypatch):
        while not (words := asyncio.run(said())):
            time.sleep(0.1)
        watch_or_go_back(kafka_settings, SETTINGS, artifact_folder, artifact_folder, 600)
        # the command was killed, and the operator gives it again
        assert promote(kafka_settings, SETTINGS, manifest, str(artifact_folder), patience_s=60).ok
    watch_or_go_back(kafka_settings, SETTINGS, artifact_folder, artifact_folder, 600)
    assert began[1:] == words * 2
    assert words[0] >= began[0] + 1000


def test_workers_whose_partitions_are_being_assigned_are_waited_for(
    kafka_settings: KafkaSettings, artifact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((None, None, 0))

    async def counted(*_: object) -> int | None:
        return next(answers)

    monkeypatch.setattr(go_live, "members", counted)
    monkeypatch.setattr(go_live, "_EVERY_S", 0.01)
    taken = promote(kafka_settings, SETTINGS, load_manifest(artifact_folder), str(artifact_folder), patience_s=5)
    assert taken.workers == 0
    assert next(answers, "asked three times") == "asked three times"


def test_without_a_worker_nobody_is_waited_for(
    kafka_settings: KafkaSettings, artifact_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = promote(kafka_settings, SETTINGS, load_manifest(artifact_folder), str(artifact_folder), patience_s=600)
    assert taken == Taken(1, str(artifact_folder), 0, 0, [])
    assert taken.ok
    taken.explain()
    assert "as they see that path" in capsys.readouterr().err


def test_a_rollback_that_cannot_be_made_is_not_said_to_be_made(
    kafka_settings: KafkaSettings, artifact_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce.announce(kafka_settings, msgspec.structs.replace(manifest, version=4), "/gone/4"))
    asyncio.run(announce.announce(kafka_settings, manifest, str(artifact_folder)))
    with pytest.raises(BadInput, match="expected the artifact of version 4, as it went live, at /gone/4"):
        take_back(kafka_settings, SETTINGS, tmp_path, 1, "version 1 failed in the stream: it is slow")
    said = capsys.readouterr().err
    assert "version 1 failed in the stream: it is slow" in said
    assert "rolled back" not in said


def test_an_artifact_that_reaches_the_workers_a_moment_later_is_no_refusal(
    kafka_settings: KafkaSettings, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh would take the version back at once, which the worker takes with its next try."""
    late = tmp_path / "late"

    async def unread() -> list[str]:
        words = await go_live._words(kafka_settings, "mine", 1, lambda _: True)
        return [word.problem for word in words if word.tries_again]

    with workers(kafka_settings, 1, monkeypatch), ThreadPoolExecutor(1) as threads:
        promoted = threads.submit(
            promote, kafka_settings, SETTINGS, load_manifest(artifact_folder), str(late), patience_s=60
        )
        while not asyncio.run(unread()):
            time.sleep(0.05)
        Path(shutil.copytree(artifact_folder, tmp_path / "part")).rename(late)
        assert promoted.result() == Taken(1, str(late), 1, 1, [])
