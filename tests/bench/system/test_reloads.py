"""The bench of reloads looks at a real server, which serves the same version before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.system import reloads
from bench.system.reloads import run_reloads


def test_a_version_comes_and_goes_beside_one_that_serves(
    artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloads, "_WARM", 0)
    monkeypatch.setattr(reloads, "_ROUNDS", 3)
    found = run_reloads(tmp_path / "run", artifact_folder, 1)
    assert found["before"]["processes"] == found["after"]["processes"]
    for look in (found["before"], found["after"]):
        assert look["server_mb"] > 100
        assert look["batch_ms"] > 0
        assert look["shared_memory_mb"] > 0
    assert found["load_s"]["first"] > 0
