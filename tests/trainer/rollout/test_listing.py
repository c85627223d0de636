"""What `panther models list` says of each version."""

from __future__ import annotations

from pathlib import Path

from panther_core.artifact import load_manifest
from panther_core.data.events import ModelUpdate
from trainer.rollout.listing import versions


def test_each_version_has_what_its_training_measured_and_where_it_is_in_service(
    artifact_folder: Path, tmp_path: Path
) -> None:
    manifest = load_manifest(artifact_folder)
    (tmp_path / "notes").mkdir()
    (tmp_path / "1").symlink_to(artifact_folder)
    history = [
        ModelUpdate(name="panther", version=number, threshold=0.5, schema_fingerprint="x", artifact=f"/gone/{number}")
        for number in (1, 4)
    ]
    loaded = {"panther_encode": [1, 4, 5], "panther_score": [1, 4], "panther_explain": [1, 4]}
    first, second = versions(tmp_path, history, loaded)
    assert manifest.threshold != 0.5
    assert first == {
        "version": 1,
        "artifact": str(tmp_path / "1"),
        "trained": first["trained"],
        "average_precision": round(manifest.metrics["test"]["average_precision"], 4),
        "threshold": 0.5,  # the manifest has another one: it moves while a version is live
        "faults": manifest.metrics["faults"],
        "live": False,
        "loaded": True,
        "alias": "previous",
    }
    assert first["trained"].startswith("20")
    assert (second["version"], second["live"], second["loaded"], second["threshold"]) == (4, True, True, 0.5)
    assert versions(tmp_path / "none", [], {}) == []


def test_a_trial_with_the_number_of_the_live_version_is_not_shown_in_its_place(
    artifact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "trial").symlink_to(artifact_folder)
    update = ModelUpdate(
        name="panther", version=1, threshold=0.5, schema_fingerprint="x", artifact=str(artifact_folder)
    )
    (found,) = versions(tmp_path, [update], {})
    assert (found["artifact"], found["live"]) == (str(artifact_folder), True)
