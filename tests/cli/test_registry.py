"""`panther models show`, `diff`, `sign`, `verify`, `mirror` and `list`, on a real broker's history."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import BadInput, InvalidFile, KafkaUnavailable, SignatureRefused
from panther_core.base.settings import KafkaSettings
from panther_core.kafka import updates
from tests.fixtures_keys import make_keys
from tests.fixtures_stack import TritonUnderTest
from tests.topics import make_topics
from tests.versions import as_version, switches


@pytest.fixture
def models(kafka: str, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of versions 1, 2 and 3, of which 1 and then 2 went live on a topic of this test."""
    folder, topic = tmp_path / "models", f"models-{uuid.uuid4().hex}"
    folder.mkdir()
    for number in (1, 2, 3):
        as_version(number, artifact_folder, folder / str(number), seed=number)
    for name, value in {"KAFKA_BOOTSTRAP_SERVERS": kafka, "PANTHER_MODELS_DIR": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(updates, "MODELS", topic)
    settings = KafkaSettings()

    async def make() -> None:
        await make_topics(settings, [topic])
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for update in switches(folder, 1, 2):
                await producer.send_and_wait(topic, msgspec.json.encode(update))

    asyncio.run(make())
    return folder


def run(*argv: str, code: int = 0) -> tuple[Any, str]:
    """The object on stdout (None where there is none) and the text on stderr."""
    done = CliRunner().invoke(app, ["models", *argv], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else None, done.stderr


def test_versions_are_shown_and_compared_by_alias_number_and_folder(
    models: Path, triton: TritonUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word, version in {"champion": 2, "previous": 1, "challenger": 3, "1": 1, str(models / "3"): 3}.items():
        assert run("show", word, "--json")[0]["version"] == version
    _, said = run("show", "challenger")
    assert "alias  challenger" in said
    assert said.endswith("next: panther models diff champion challenger\n")
    assert run("diff", "champion", "challenger", "--json")[0]["facts"] == {"seed": [2, 3]}
    _, said = run("diff", "champion", "3")
    assert "seed  2 -> 3" in said
    assert said.endswith("next: panther models show 3\n")
    monkeypatch.setenv("TRITON_URL", triton.grpc_url)
    if triton.server is not None:
        monkeypatch.setenv("TRITON_KEY", triton.server.key)
    listed = run("list", "--json")[0]["versions"]
    assert {one["version"]: one["alias"] for one in listed} == {1: "previous", 2: "champion", 3: "challenger"}
    assert "champion, live" in run("list")[1]


def test_without_kafka_a_version_is_shown_by_its_number_and_not_by_its_alias(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    found, said = run("show", "3", "--json")
    assert (found["version"], found["alias"], found["live"]) == (3, None, None)
    assert "which versions were live is not known" in said
    with pytest.raises(KafkaUnavailable):
        run("show", "champion")


def test_a_version_is_signed_and_verified(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, others = make_keys(tmp_path / "keys"), make_keys(tmp_path / "others")
    folder = shutil.copytree(artifact_folder, tmp_path / "1")
    found, _ = run("sign", str(folder), "--key", str(keys.private), "--json")
    assert found == {"signature": str(folder / "manifest.json.minisig")}
    verified = {"version": 1, "signature": "valid"}
    assert run("verify", str(folder), "--public-key", str(keys.public), "--json")[0] == verified
    with pytest.raises(BadInput, match="expected a public key, got none"):
        run("verify", str(folder))
    monkeypatch.setenv("PANTHER_MODELS_KEY", str(others.public))
    with pytest.raises(SignatureRefused, match="a signature by the key"):
        run("verify", str(folder))
    for command in ("load", "promote"):  # neither asks Triton or Kafka for a version that nobody has signed
        with pytest.raises(SignatureRefused, match="a signature by the key"):
            run(command, str(folder))
    keys.private.chmod(0o644)
    with pytest.raises(InvalidFile, match="chmod 600"):
        run("sign", str(folder), "--key", str(keys.private))


def test_a_mirror_needs_an_address_and_its_failure_is_the_exit_code(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadInput, match="MLFLOW_TRACKING_URI"):
        run("mirror")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    found, said = run("mirror", "--json", code=1)
    assert found == {"ok": False}
    assert "MLflow is not up to date" in said


def test_a_switch_that_nothing_could_take_back_is_not_watched(models: Path) -> None:
    """Workers that have begun with new states refuse the version before, and the watch would fail to roll back."""
    _, said = run("promote", str(models / "3"), "--new-states", "--watch", "10m", code=2)
    assert "expected no --watch beside --new-states" in said
