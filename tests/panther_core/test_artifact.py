"""Artifacts: what is written is read back, and what was damaged or mixed up is refused with a remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from panther_core import artifact
from panther_core.base.errors import ArtifactError, FingerprintMismatch
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.token_report import REPORT, TOKENIZER, TokenReport
from panther_core.decide.rules import RuleModel
from panther_core.model.serving import PantherModel
from trainer.rollout.deploy import MODELS, TEMPLATES, export


@pytest.fixture
def copy(artifact_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact_folder, tmp_path / "artifact"))


def test_manifest_describes_the_version(artifact_folder: Path) -> None:
    manifest = artifact.load_manifest(artifact_folder)
    assert manifest.version == 1
    assert 0 < manifest.threshold < 1
    assert manifest.vocabulary_size == artifact.load_vocabulary(artifact_folder).size
    assert manifest.schema_fingerprint == artifact.load_schema(artifact_folder).fingerprint
    assert set(manifest.files) == {p.name for p in artifact_folder.iterdir()} - {artifact.MANIFEST, artifact.PAGE}
    assert {"validation", "test", "test_rules", "test_next"} <= set(manifest.metrics)


def test_tokens_are_reported_beside_the_version(artifact_folder: Path) -> None:
    manifest = artifact.load_manifest(artifact_folder)
    found = msgspec.json.decode((artifact_folder / REPORT).read_bytes(), type=TokenReport)
    assert (found.vocabulary, found.tokenizer_version) == (manifest.vocabulary_size, manifest.tokenizer_version)
    assert found.schema_fingerprint == manifest.schema_fingerprint
    assert found.fitted.covered == pytest.approx(manifest.coverage, abs=1e-6)
    assert found.later is not None
    assert 0 < found.later.covered <= 1


@pytest.mark.parametrize("name", [artifact.WEIGHTS, "schema.json", "merchant_risk.safetensors", TOKENIZER])
def test_a_changed_file_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"sha256.*{name}.*copy the artifact again"):
        PantherModel.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "vocabulary.json").unlink()
    with pytest.raises(ArtifactError, match=r"vocabulary\.json"):
        artifact.load_manifest(copy)


def test_a_folder_without_an_artifact_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="panther models train"):
        artifact.load_manifest(tmp_path)


def test_another_feature_set_does_not_fit(copy: Path) -> None:
    manifest = json.loads((copy / artifact.MANIFEST).read_bytes())
    manifest["feature_names"][0] = "something_else"
    (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FingerprintMismatch, match="something_else"):
        artifact.load_manifest(copy)


def test_another_schema_does_not_fit(copy: Path) -> None:
    manifest = json.loads((copy / artifact.MANIFEST).read_bytes())
    manifest["schema_fingerprint"] = "0" * 64
    (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FingerprintMismatch, match="mixes two artifacts"):
        artifact.load_schema(copy)


def test_rules_and_risk_come_back_as_they_were(artifact_folder: Path) -> None:
    rules, risk = artifact.load_rules(artifact_folder), artifact.load_merchant_risk(artifact_folder)
    assert isinstance(rules, RuleModel)
    assert isinstance(risk, MerchantRisk)
    features = np.random.default_rng(0).normal(size=(5, len(rules.mean))).astype(np.float32)
    logit = rules.contributions(features).sum(axis=1) + rules.bias
    np.testing.assert_allclose(rules.score(features), 1 / (1 + np.exp(-logit)), rtol=1e-5)
    np.testing.assert_array_equal(risk.level(risk.merchant), risk.levels)


def test_export_makes_whole_version_folders_once(artifact_folder: Path, copy: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    assert export(artifact_folder, repository) == export(artifact_folder, repository) == 1
    for model in MODELS:
        assert sorted(p.name for p in (repository / model).iterdir()) == ["1", "config.pbtxt"]
        PantherModel.load(repository / model / "1" / "artifact")
    manifest = json.loads((copy / artifact.MANIFEST).read_bytes())
    (copy / "vocabulary.json").write_bytes((copy / "vocabulary.json").read_bytes() + b" ")
    manifest["files"]["vocabulary.json"] = artifact.sha256(copy / "vocabulary.json")
    (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="other content"):
        export(copy, repository)


def test_export_for_gpus_changes_the_instance_groups_alone(artifact_folder: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        export(artifact_folder, tmp_path / device, device)
    for model in MODELS:
        template, cpu, gpu = (
            (folder / model / "config.pbtxt").read_bytes()
            for folder in (TEMPLATES, tmp_path / "cpu", tmp_path / "cuda")
        )
        assert cpu == template
        assert gpu == (
            template if model == "panther_explain" else template.replace(b"kind: KIND_CPU", b"kind: KIND_GPU")
        )
        assert gpu.count(b"instance_group") == 1
    assert b"kind: KIND_GPU" in (tmp_path / "cuda" / "panther_encode" / "config.pbtxt").read_bytes()
