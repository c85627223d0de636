"""What `panther models show` and `diff` say of versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from panther_core.artifact import load_manifest
from panther_core.base.errors import ArtifactError, InvalidFile
from panther_core.signature import sign
from tests.fixtures_keys import make_keys
from tests.versions import as_version, switches
from trainer.rollout.describe import describe, diff

DECISION = {
    "champion": 1,
    "challenger": 2,
    "promoted": True,
    "gate": [
        {
            "check": "average_precision",
            "held": True,
            "champion": 0.5,
            "challenger": 0.6,
            "interval": [0.01, 0.2],
            "why": "better",
        }
    ],
}


@pytest.fixture
def models(artifact_folder: Path, tmp_path: Path) -> Path:
    """Version 1, and version 2, which was judged beside it and has another threshold, seed and average precision."""
    folder = tmp_path / "models"
    folder.mkdir()
    as_version(1, artifact_folder, folder / "1")
    metrics = load_manifest(artifact_folder).metrics
    changed = metrics | {"test": metrics["test"] | {"average_precision": 0.75}}
    as_version(2, artifact_folder, folder / "2", threshold=0.25, seed=7, metrics=changed)
    (folder / "2" / "refresh.json").write_text(json.dumps(DECISION))
    return folder


def test_a_version_is_described_with_its_decision_its_signature_and_its_switches(models: Path, tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    history = switches(models, 1, 2, 1, 2)
    found = describe(models / "2", models, history, None)
    manifest = load_manifest(models / "2")
    assert (found["version"], found["alias"], found["live"], found["switches"]) == (2, "champion", True, [2, 4])
    assert (found["threshold"], found["seed"], found["metrics"]["average_precision"]) == (0.25, 7, 0.75)
    assert (found["tokenizer_version"], found["faults"]) == (manifest.tokenizer_version, manifest.metrics["faults"])
    assert found["data_window"][0] < found["data_window"][1] < found["trained"], "ISO 8601 times, in their order"
    assert (found["gate"], found["signature"]) == (DECISION, "none")
    first = describe(models / "1", models, history, keys.public)
    assert (first["alias"], first["live"], first["gate"]) == ("previous", False, None)
    assert "found no manifest.json.minisig" in first["signature"]
    sign(models / "1", keys.private)
    states = [describe(models / "1", models, None, key)["signature"] for key in (None, keys.public)]
    assert states == ["not checked", "valid"]
    unknown = describe(models / "1", models, None, None)
    assert (unknown["alias"], unknown["live"], unknown["switches"]) == (None, None, None)


def test_versions_differ_in_what_was_changed_and_in_nothing_else(models: Path) -> None:
    found = diff(models / "1", models / "2")
    before = load_manifest(models / "1")
    assert found["facts"] == {"threshold": [before.threshold, 0.25], "seed": [before.seed, 7]}
    assert found["metrics"] == {"average_precision": [before.metrics["test"]["average_precision"], 0.75]}
    assert (found["config"], found["files"], found["gate"]) == ({}, {}, DECISION)
    assert diff(models / "2", models / "1")["gate"] is None, "version 1 was not judged beside version 2"
    (models / "2" / "refresh.json").write_text(json.dumps(DECISION | {"champion": 9}))
    assert diff(models / "1", models / "2")["gate"] is None, "nor was version 2 beside this one"


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(DECISION | {"gate": [{"check": "x"}]})])
def test_what_is_no_decision_is_said(models: Path, content: str) -> None:
    (models / "2" / "refresh.json").write_text(content)
    with pytest.raises(InvalidFile, match=r"expected a decision of the gate in .*refresh\.json"):
        describe(models / "2", models, [], None)


def test_a_damaged_version_is_not_described(models: Path) -> None:
    (models / "1" / "rules.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="sha256"):
        describe(models / "1", models, [], None)
