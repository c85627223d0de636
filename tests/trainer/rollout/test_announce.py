"""Which version is live, and which one a rollback goes to, whatever else stands on the topic."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.errors import BadInput, FingerprintMismatch
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate, in_effect
from panther_core.kafka import updates as history_of
from panther_core.kafka.updates import updates
from tests.topics import make_topics
from trainer.rollout import announce as module
from trainer.rollout.announce import announce, before_live, folder_of, previous


@pytest.fixture
def settings(kafka: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """A broker with an empty topic for updates."""
    out = KafkaSettings(bootstrap_servers=kafka)
    topic = f"models-{uuid.uuid4().hex}"
    for place in (module, history_of):
        monkeypatch.setattr(place, "MODELS", topic)

    asyncio.run(make_topics(out, [topic]))
    return out


def live(settings: KafkaSettings) -> list[int]:
    return [update.version for update in asyncio.run(updates(settings))]


def other(manifest: Manifest, **changes: object) -> Manifest:
    return msgspec.structs.replace(manifest, **{"version": 2} | changes)


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


def test_records_that_are_no_updates_stop_no_command(
    settings: KafkaSettings, artifact_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, str(artifact_folder)))

    async def send() -> None:
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for value in (None, b"", b"{}", b'{"name":"p","version":"2"}', b"\xff", b"[" * 5000):
                await producer.send_and_wait(module.MODELS, value, key=b"p")

    asyncio.run(send())
    asyncio.run(announce(settings, other(manifest), str(artifact_folder)))
    assert live(settings) == [1, 2]
    assert asyncio.run(previous(settings)).version == 1
    assert (
        f"6 of 8 records of {module.MODELS} were skipped, the first at {module.MODELS}:0:1" in capsys.readouterr().err
    )


def test_of_two_operators_who_saw_the_same_version_one_switches(settings: KafkaSettings, artifact_folder: Path) -> None:
    """Both have read the topic before either writes: what counts is decided by the order of the topic."""
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, str(artifact_folder)))
    read_by_both = asyncio.run(updates(settings))

    async def as_seen(_: KafkaSettings) -> list[ModelUpdate]:
        return read_by_both

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "updates", as_seen)
        asyncio.run(announce(settings, other(manifest), "two"))
        with pytest.raises(BadInput, match="expected version 1 to be live still, got 2: somebody has switched"):
            asyncio.run(announce(settings, other(manifest, version=3), "three"))
    assert live(settings) == [1, 2]
    with pytest.raises(BadInput, match="expected version 1 to be live still, got 2"):
        asyncio.run(announce(settings, other(manifest, version=4), "four", instead_of=1))
    asyncio.run(announce(settings, other(manifest, version=4), "four", instead_of=2))
    assert live(settings) == [1, 2, 4]


def test_an_update_that_came_too_late_changes_nothing_for_those_after_it() -> None:
    def update(version: int, instead_of: int | None) -> ModelUpdate:
        return msgspec.structs.replace(history(version)[0], instead_of=instead_of)

    first, late, then = update(1, 0), update(2, 7), update(3, 1)
    assert in_effect([first, late, then]) == [first, then]
    assert in_effect([late, first, update(2, 0), update(2, None)]) == [first, update(2, None)]


def history(*versions: int) -> list[ModelUpdate]:
    return [
        ModelUpdate(name="panther", version=v, threshold=0.5, schema_fingerprint="", artifact=f"models/{v}")
        for v in versions
    ]


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        *(((1, 2), 1), ((1, 2, 3), 2), ((1, 2, 3, 2), 1), ((1, 2, 3, 2, 4), 2), ((1, 2, 3, 2, 4, 2), 1)),
        *(((1, 2, 2), 1), ((1, 2, 3, 1, 3), 1), ((1, 2, 1, 2), 1)),
    ],
)
def test_a_second_rollback_goes_further_back_and_never_forward(versions: tuple[int, ...], wanted: int) -> None:
    assert before_live(history(*versions)).version == wanted


@pytest.mark.parametrize("versions", [(), (1,), (1, 1), (1, 2, 1)])
def test_where_nothing_came_before_no_rollback_is_made(versions: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="--to"):
        before_live(history(*versions))


def test_a_rollback_to_a_named_version() -> None:
    assert before_live(history(1, 2, 3, 2), 3).version == 3
    with pytest.raises(BadInput, match=r"version 9 .*ever live: \[1, 2\]"):
        before_live(history(1, 2), 9)


def test_a_switch_that_somebody_else_made_meanwhile_is_not_undone(
    settings: KafkaSettings, artifact_folder: Path
) -> None:
    manifest = load_manifest(artifact_folder)
    asyncio.run(announce(settings, manifest, str(artifact_folder)))
    with pytest.raises(BadInput, match="expected version 7 to be live still, got 1"):
        asyncio.run(announce(settings, other(manifest), str(artifact_folder), instead_of=7))
    assert live(settings) == [1]


def test_another_training_of_the_same_number_is_not_taken_for_the_version_that_went_live(
    settings: KafkaSettings, artifact_folder: Path, tmp_path: Path
) -> None:
    """Where its own folder is gone: a refresh would go on from a trial."""
    manifest = load_manifest(artifact_folder)
    (tmp_path / "1").symlink_to(artifact_folder)
    asyncio.run(announce(settings, manifest, "/gone/1"))
    (update,) = asyncio.run(updates(settings))
    assert folder_of(update, tmp_path) == tmp_path / "1"
    trial = other(manifest, files=manifest.files | {"report.json": "0" * 64}, version=1)
    with pytest.raises(BadInput, match="version 1, as it went live, at /gone/1"):
        folder_of(msgspec.structs.replace(update, content=trial.content), tmp_path)
