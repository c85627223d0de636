"""Which version is live, and from which a decision came: whatever stands on the topic, and whenever it can be read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from panther_core.artifact import load_manifest
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import EVERY_PARTITION, ModelProgress, ModelUpdate
from panther_core.kafka.reading import read_topic
from panther_core.signature import sign
from stream.worker import live_models as module
from stream.worker.live_models import LiveModels
from stream.worker.warm_up import WarmUp
from tests.fixtures_keys import make_keys
from tests.topics import make_topics

_REASONS = ("a signature of something else", "a signature by the key", "found no manifest.json.minisig")


def update(version: int, folder: Path) -> bytes:
    """As it stands on `models.updates`."""
    return msgspec.json.encode(
        ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="", artifact=str(folder))
    )


def as_version(number: int, artifact: Path, folder: Path, **changes: object) -> Path:
    """Copy an artifact under another version's number; the folder appears whole, since somebody may wait for it."""
    part = Path(shutil.copytree(artifact, folder.with_name(f"{folder.name}.part")))
    manifest = msgspec.json.decode((part / "manifest.json").read_bytes())
    (part / "manifest.json").write_bytes(msgspec.json.encode(manifest | {"version": number} | changes))
    return part.rename(folder)


def noted(*values: bytes | None, key: Path | None = None) -> LiveModels:
    """A worker's models after these updates, none of which is served yet."""
    out = LiveModels(KafkaSettings(), models_key=key)
    for offset, value in enumerate(values):
        tell(out, value, offset)
    return out


def tell(models: LiveModels, value: bytes | None, offset: int = 0) -> None:
    """An update comes on the topic."""
    models.note(ConsumerRecord("models.updates", 0, offset, 0, 0, None, value, None, 0, 0, []))


class Watched(WarmUp):
    """A warm-up that notes which versions it ran for, and ends when it is told to."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.done = asyncio.Event()

    async def run(self, version: int, wanted: Callable[[], bool]) -> None:
        self.ran.append(version)
        while wanted() and not self.done.is_set():  # noqa: ASYNC110 - nothing tells of a newer version
            await asyncio.sleep(0.01)


def test_a_version_is_shown_its_users_before_it_takes_the_place_of_another_one(
    artifact_folder: Path, tmp_path: Path
) -> None:
    for number in (2, 3):
        as_version(number, artifact_folder, tmp_path / str(number))

    async def until(models: LiveModels, version: int) -> None:
        while models.now is None or models.now.live.version != version:  # noqa: ASYNC110 - nothing tells of a switch
            await asyncio.sleep(0.01)

    async def go() -> list[int]:
        shown = Watched()
        models = LiveModels(KafkaSettings(), warm_up=shown)

        following = asyncio.create_task(models._keep_up())
        tell(models, update(1, artifact_folder))
        await until(models, 1)  # the first one is not waited for
        tell(models, update(2, tmp_path / "2"))
        while shown.ran != [2]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await models.current()).live.version == 1, "it decides until the next one has seen its users"
        tell(models, update(3, tmp_path / "3"))  # version 2 is not wanted any more
        while shown.ran != [2, 3]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await models.current()).live.version == 1
        shown.done.set()
        await until(models, 3)
        tell(models, update(1, artifact_folder))  # back: at once
        await until(models, 1)
        following.cancel()
        return shown.ran

    assert asyncio.run(asyncio.wait_for(go(), 60)) == [2, 3]


def test_a_version_that_was_live_before_the_worker_began_goes_live_again_at_once(
    artifact_folder: Path, tmp_path: Path
) -> None:
    """A rollback from a bad version is not to wait for a warm-up because the worker has been started anew."""
    as_version(2, artifact_folder, tmp_path / "2")

    async def go() -> list[int]:
        shown = Watched()
        models = LiveModels(KafkaSettings(), warm_up=shown)

        tell(models, update(1, artifact_folder))
        tell(models, update(2, tmp_path / "2"))
        assert (await settled(models)).now.live.version == 2
        following = asyncio.create_task(models._keep_up())
        tell(models, update(1, artifact_folder))
        while (await models.current()).live.version != 1:  # noqa: ASYNC110 - nothing tells of a switch
            await asyncio.sleep(0.01)
        following.cancel()
        return shown.ran

    assert asyncio.run(asyncio.wait_for(go(), 60)) == []


def test_a_version_that_is_promoted_again_while_it_is_shown_its_users_does_not_go_live_without_them(
    artifact_folder: Path, tmp_path: Path
) -> None:
    """As by an operator who sees that nothing has happened yet, or by a threshold that moves."""
    as_version(2, artifact_folder, tmp_path / "2")

    async def go() -> list[int]:
        shown = Watched()
        models = await settled(noted(update(1, artifact_folder)))
        models._warm_up = shown

        async def until_shown(times: int) -> None:
            while len(shown.ran) < times and models.now.live.version == 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        following = asyncio.create_task(models._keep_up())
        for times in (1, 2):
            value = update(2, tmp_path / "2")
            tell(models, value)
            await until_shown(times)
            assert models.now.live.version == 1
        following.cancel()
        return shown.ran

    assert asyncio.run(asyncio.wait_for(go(), 60)) == [2, 2]


def test_a_version_that_is_rolled_back_while_its_artifact_is_read_does_not_go_live(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment: the artifact of the one before has to be read again until it decides."""
    as_version(2, artifact_folder, tmp_path / "2")
    reading, go_on, loaded = threading.Event(), threading.Event(), module._load

    def slow(known: ModelUpdate, *rest: Any) -> Any:
        if known.version == 2:
            reading.set()
            go_on.wait(60)
        return loaded(known, *rest)

    async def go() -> None:
        models = await settled(noted(update(1, artifact_folder)))
        monkeypatch.setattr(module, "_load", slow)

        following = asyncio.create_task(models._keep_up())
        tell(models, update(2, tmp_path / "2"))
        await asyncio.to_thread(reading.wait, 60)
        tell(models, update(1, artifact_folder))
        go_on.set()
        while models.wanted is not models._served:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        following.cancel()
        assert models.version(2).live.version == 1, "version 2 was never served"

    asyncio.run(asyncio.wait_for(go(), 60))


async def settled(models: LiveModels) -> LiveModels:
    """After the newest update that can be served has been, or a first try has failed."""
    following = asyncio.create_task(models._keep_up())
    while models.now is None and models.problem is None:  # noqa: ASYNC110 - nothing tells of a failed try
        await asyncio.sleep(0.01)
    following.cancel()
    return models


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)


def test_a_worker_holds_a_few_versions_however_many_go_live(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh makes one every few hours, and a worker runs for months."""
    monkeypatch.setattr(module, "_HELD", 8)

    async def go() -> LiveModels:
        models = await settled(noted(update(1, artifact_folder)))
        for number in range(2, 13):
            folder = as_version(number, artifact_folder, tmp_path / str(number))
            tell(models, update(number, folder))
            assert await models.take(models.wanted)  # type: ignore[arg-type]
        return models

    models = asyncio.run(go())
    held = [number for number in range(1, 13) if models.version(number).live.version == number]
    assert held == [*range(5, 13)]
    asyncio.run(models.preload([1, 2]))
    assert [models.version(number).live.version for number in (1, 2, 12)] == [1, 2, 12]


def test_a_folder_that_was_written_over_after_its_version_went_live_is_refused(
    artifact_folder: Path, tmp_path: Path
) -> None:
    """As by `models train --overwrite`: Triton has the weights of before, and this worker starts anew."""
    one, two = as_version(1, artifact_folder, tmp_path / "1"), as_version(2, artifact_folder, tmp_path / "2")
    content = load_manifest(two).content
    rules = (two / "rules.safetensors").read_bytes()
    changed = rules[:-1] + bytes([rules[-1] ^ 1])
    (two / "rules.safetensors").write_bytes(changed)
    manifest = msgspec.json.decode((two / "manifest.json").read_bytes())
    manifest["files"]["rules.safetensors"] = hashlib.sha256(changed).hexdigest()
    (two / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    written = msgspec.json.decode(update(2, two), type=ModelUpdate)

    def taken(content: str) -> int:
        wanted = msgspec.json.encode(msgspec.structs.replace(written, content=content))
        models = asyncio.run(settled(noted(update(1, one), wanted)))
        return models.now.live.version

    assert taken("") == taken(load_manifest(two).content) == 2
    assert taken(content) == 1


def test_a_version_from_before_the_start_is_preloaded(artifact_folder: Path, tmp_path: Path) -> None:
    as_version(7, artifact_folder, tmp_path / "7")

    async def go() -> None:
        models = await settled(
            noted(update(7, tmp_path / "7"), update(3, tmp_path / "none"), update(1, artifact_folder))
        )
        assert models.version(7).live.version == 1, "not held yet"
        await models.preload([1, 7, 3, 0, 99])
        assert [models.version(number).live.version for number in (1, 7, 3, 0, 99)] == [1, 7, 1, 1, 1]
        held = models.version(7)
        await models.preload([7])
        assert models.version(7) is held

    asyncio.run(go())


def test_the_threshold_of_the_live_version_moves_without_its_artifact_being_read(
    artifact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(threshold: float, instead_of: int) -> bytes:
        known = msgspec.json.decode(update(1, artifact_folder), type=ModelUpdate)
        return msgspec.json.encode(msgspec.structs.replace(known, threshold=threshold, instead_of=instead_of))

    async def go() -> None:
        models = await settled(noted(update(1, artifact_folder)))
        before = models.now
        assert before is not None
        assert before.live.threshold == 0.5, "the update's, not the manifest's"
        monkeypatch.setattr(module, "load_serving_model", lambda _: pytest.fail("read again"))
        for offset, value in enumerate((moved(0.25, 1), moved(0.125, 9)), 1):  # the second saw another version live
            tell(models, value, offset)
        assert await models.take(models.wanted)  # type: ignore[arg-type]
        assert models.now is not None
        assert models.now.live.threshold == 0.25
        assert models.now.codec is before.codec

    asyncio.run(go())


def test_records_that_are_no_updates_are_skipped(artifact_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = asyncio.run(settled(noted(update(1, artifact_folder), b"no update", None, b"[]")))
    assert models.now is not None
    assert models.problem is None
    assert [r.getMessage().split(": ")[0] for r in caplog.records if r.levelno == logging.ERROR] == [
        "models.updates:0:1",
        "models.updates:0:2",
        "models.updates:0:3",
    ]


def test_a_start_waits_for_the_newest_version_and_takes_no_older_one(
    artifact_folder: Path, tmp_path: Path, quick: None
) -> None:
    """The artifact comes late. Version 1 has other thresholds, and its sweep would move users back to it."""

    async def go() -> None:
        models = await settled(noted(update(1, artifact_folder), update(2, tmp_path / "late")))
        assert models.now is None
        assert "version 2" in str(models.problem)
        assert "tried again" in str(models.problem)
        following = asyncio.create_task(models._keep_up())
        await asyncio.to_thread(as_version, 2, artifact_folder, tmp_path / "late")
        assert (await models.current()).live.version == 2
        assert models.problem is None
        following.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize(
    "changes", [{"feature_names": ["other"]}, {"version": 9}], ids=["other features", "another version's number"]
)
def test_a_version_that_can_never_be_served_is_passed_over_loudly(
    artifact_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    folder = as_version(2, artifact_folder, tmp_path / "2", **changes)
    models = asyncio.run(settled(noted(update(1, artifact_folder), update(2, folder))))
    assert models.now is not None
    assert models.now.live.version == 1
    assert models.problem is None
    assert "model version 2 refused, the version before it counts" in caplog.text


def test_a_worker_with_a_key_takes_signed_versions_alone(
    artifact_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys, others = make_keys(tmp_path / "keys"), make_keys(tmp_path / "others")
    folders = {number: as_version(number, artifact_folder, tmp_path / str(number)) for number in (2, 3, 4, 5)}
    for number, key in {2: keys, 4: others, 5: keys}.items():
        sign(folders[number], key.private)
    as_signed = (folders[5] / "manifest.json").read_bytes()
    (folders[5] / "manifest.json").write_bytes(as_signed.replace(b'"seed":0', b'"seed":1'))
    models = noted(*(update(number, folder) for number, folder in folders.items()), key=keys.public)
    asyncio.run(settled(models))
    assert models.now is not None
    assert models.now.live.version == 2
    assert models.problem is None, "refused for good, the version before counts"
    refused = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert [(why.split()[2], reason in why) for why, reason in zip(refused, _REASONS, strict=True)] == [
        ("5", True),
        ("4", True),
        ("3", True),
    ]
    asyncio.run(models.preload([3]))
    assert models.version(3).live.version == 2, "nor for decisions of before the start"


def test_a_key_that_cannot_be_read_is_waited_for(artifact_folder: Path, tmp_path: Path, quick: None) -> None:
    folder = as_version(2, artifact_folder, tmp_path / "2")
    keys = make_keys(tmp_path / "keys")
    sign(folder, keys.private)

    async def go() -> None:
        models = noted(update(2, folder), key=tmp_path / "late.pub")
        await settled(models)
        assert "expected a public key of minisign" in str(models.problem)
        following = asyncio.create_task(models._keep_up())
        keys.public.rename(tmp_path / "late.pub")
        assert (await models.current()).live.version == 2
        following.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_newer_update_ends_the_wait_for_one_that_cannot_be_read(
    artifact_folder: Path, tmp_path: Path, quick: None
) -> None:
    async def go() -> None:
        models = await settled(noted(update(2, tmp_path / "gone")))
        following = asyncio.create_task(models._keep_up())
        tell(models, update(1, artifact_folder), 1)
        assert (await models.current()).live.version == 1
        assert models.problem is None
        following.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_the_event_loop_turns_while_an_artifact_is_read(artifact_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that never returns, as of a share that hangs, until the loop lets it: it could not if it was blocked."""
    go_on, read = threading.Event(), module.load_serving_model

    def hanging(folder: Path) -> Any:
        assert go_on.wait(30)
        return read(folder)

    monkeypatch.setattr(module, "load_serving_model", hanging)
    monkeypatch.setattr(module, "_SLOW_S", 0.0)

    async def go() -> None:
        models = noted(update(1, artifact_folder))
        following = asyncio.create_task(models._keep_up())
        while models.problem is None:  # noqa: ASYNC110 - nothing tells of a read that takes long
            await asyncio.sleep(0.01)
        assert "being read" in str(models.problem)
        go_on.set()
        assert (await models.current()).live.version == 1
        assert models.problem is None
        following.cancel()

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.fixture
def topics(kafka: str, monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaSettings, str, str]:
    settings, names = (
        KafkaSettings(bootstrap_servers=kafka),
        [f"{n}-{uuid.uuid4().hex}" for n in ("models", "progress")],
    )
    monkeypatch.setattr(module, "MODELS", names[0])
    monkeypatch.setattr(module, "PROGRESS", names[1])

    asyncio.run(make_topics(settings, names))
    return settings, names[0], names[1]


def test_the_topic_is_followed_beyond_what_it_held_at_the_start_and_the_worker_gives_its_word(
    topics: tuple[KafkaSettings, str, str], artifact_folder: Path, tmp_path: Path, quick: None
) -> None:
    settings, topic, progress = topics
    folders = {1: artifact_folder, 2: tmp_path / "2", 3: tmp_path / "3", 4: tmp_path / "4"}
    for version in (2, 3):
        as_version(version, artifact_folder, folders[version])
    as_version(4, artifact_folder, folders[4], schema_fingerprint="f" * 64)

    async def go() -> list[int]:
        models, seen = LiveModels(settings, "app"), []
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for version in (1, 2):
                await producer.send_and_wait(topic, update(version, folders[version]))
            following = asyncio.create_task(models.run())
            seen.append((await models.current()).live.version)
            await producer.send_and_wait(topic, None, key=b"panther")
            for version in (3, 4):
                await producer.send_and_wait(topic, update(version, folders[version]))
            while models.now and models.now.live.version != 3:  # noqa: ASYNC110 - nothing tells of a switch
                await asyncio.sleep(0.02)
        await models.preload([1])
        seen += [models.version(1).live.version, (await models.current()).live.version]
        while len(await read_topic(settings, progress)) < 3:  # noqa: ASYNC110 - the topic is another program's
            await asyncio.sleep(0.1)
        following.cancel()
        return seen

    assert asyncio.run(asyncio.wait_for(go(), 60)) == [2, 1, 3]
    records = asyncio.run(read_topic(settings, progress))
    words = {w.version: w for w in (msgspec.json.decode(r.value or b"", type=ModelProgress) for r in records)}
    assert {(w.app_id, w.partition) for w in words.values()} == {("app", EVERY_PARTITION)}
    assert len({w.worker for w in words.values()}) == 1
    assert (words[2].problem, words[3].problem) == ("", "")
    assert "mixes two artifacts" in words[4].problem
