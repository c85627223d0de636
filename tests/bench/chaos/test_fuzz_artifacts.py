"""Forged artifacts and records: the small version of `panther bench fuzz --artifacts`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.fuzz_artifacts import NAMES, fuzz_artifacts
from panther_core import artifact
from panther_core.artifact import KNOWN


def test_no_artifact_and_no_record_crashes_or_leaves_its_folder(artifact_folder: Path, tmp_path: Path) -> None:
    result = fuzz_artifacts(artifact_folder, tmp_path, 600, seed=3)
    assert result["ok"], result["examples"]
    assert result["outcomes"]["ArtifactError"] > 100
    assert sum(n for name, n in result["outcomes"].items() if name.startswith("taken")) > 10, "some are harmless"
    assert len([name for name in result["outcomes"] if name.startswith("read: ")]) == 7


def test_the_fuzzer_finds_a_manifest_whose_names_are_not_checked(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "KNOWN", KNOWN | set(NAMES))
    result = fuzz_artifacts(artifact_folder, tmp_path, 400, seed=3)
    assert result["crashes"] + result["escapes"] > 0
    assert not result["ok"]
