"""Artifacts: what is written is read back, and what was damaged or mixed up is refused with a remedy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from panther_core import artifact
from panther_core.base.errors import ArtifactError, FingerprintMismatch
from panther_core.base.settings import PantherSettings
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.token_report import REPORT, TOKENIZER, TokenReport
from panther_core.decide.rules import RuleModel
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from trainer.rollout.deploy import MODELS, TEMPLATES, DeployError, export, install


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


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest, and make its checksums those of the files as they are now."""
    manifest = json.loads((folder / artifact.MANIFEST).read_bytes())
    manifest["files"] = {name: artifact.sha256(folder / name) for name in manifest["files"]}
    (folder / artifact.MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    "name",
    ["../model.py", "{outside}", "model.py", "config.pbtxt", "sub/schema.json", "./schema.json", "", "..", "a\0b"],
)
def test_a_manifest_names_the_files_of_an_artifact_and_nothing_else(copy: Path, tmp_path: Path, name: str) -> None:
    code = b"import os  # somebody else's\n"
    for place in (copy.parent / "model.py", copy / "model.py", copy / "config.pbtxt"):
        place.write_bytes(code)
    files = json.loads((copy / artifact.MANIFEST).read_bytes())["files"]
    name = name.format(outside=copy.parent / "model.py")
    rewrite(copy, files=files | {name: hashlib.sha256(code).hexdigest()})
    with pytest.raises(ArtifactError, match="take the artifact from where it was trained"):
        export(copy, tmp_path / "repository")
    assert not list((tmp_path / "repository").rglob("*")), "nothing of it was put into the repository"


@pytest.mark.parametrize("name", artifact.NEEDED)
def test_a_manifest_names_every_file_that_is_needed(copy: Path, name: str) -> None:
    files = json.loads((copy / artifact.MANIFEST).read_bytes())["files"]
    del files[name]
    rewrite(copy, files=files)
    with pytest.raises(ArtifactError, match=f"without '{name}'"):
        artifact.load_manifest(copy)


@pytest.mark.parametrize("name", ["schema.json", artifact.MANIFEST, artifact.WEIGHTS])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_links_folders_and_pipes_are_no_files_of_an_artifact(copy: Path, tmp_path: Path, name: str, kind: str) -> None:
    (copy / name).rename(tmp_path / "same")
    if kind == "link":
        (copy / name).symlink_to(tmp_path / "same")
    elif kind == "folder":
        (copy / name).mkdir()
    else:
        os.mkfifo(copy / name)
    with pytest.raises(ArtifactError, match="a link" if kind == "link" else "a folder, pipe or device"):
        artifact.load_manifest(copy)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("version", 0), ("version", -1), ("version", 2**32), ("version", "1"), ("version", True)),
        *(("threshold", float("nan")), ("threshold", -0.1), ("threshold", 1.5), ("threshold", None)),
        *(("alert_budget", 2), ("coverage", -1), ("cached_width", 0), ("cached_width", 2**40), ("context_length", 8)),
        *(("typical_surprise", []), ("typical_surprise", [1e999] * 6), ("data_window", [5, 4]), ("created_at", -1)),
        *(("name", ""), ("name", "a\x1b[2J"), ("code_version", "\n"), ("name", "x" * 200), ("seed", -1)),
        *(("data_window", [0, 2**63]), ("vocabulary_size", 0), ("config", {"layers": 10**6}), ("config", {"d": -4})),
    ],
)
def test_foolish_values_in_a_manifest_are_refused(copy: Path, field: str, value: object) -> None:
    rewrite(copy, **{field: value})
    with pytest.raises(ArtifactError, match=r"manifest\.json.*copy the artifact again"):
        artifact.load_manifest(copy)


@pytest.mark.parametrize(
    ("file", "name", "change"),
    [
        *(
            ("rules", "mean", lambda t: t[:-1]),
            ("rules", "std", lambda t: 0 * t),
            ("rules", "weight", lambda t: t * np.nan),
        ),
        *(
            ("rules", "bias", lambda t: t[:0]),
            ("rules", "mean", lambda t: t.astype(np.float64)),
            ("rules", "std", None),
        ),
        *(("merchant_risk", "merchant", lambda t: t[::-1].copy()), ("merchant_risk", "levels", lambda t: t + 100)),
        *(("merchant_risk", "rate", lambda t: t[1:]), ("merchant_risk", "merchant", lambda t: t.reshape(1, -1))),
    ],
)
def test_tensors_of_other_shapes_types_or_values_are_refused(
    copy: Path, file: str, name: str, change: Callable[[Any], Any] | None
) -> None:
    path = copy / f"{file}.safetensors"
    tensors = load_file(path)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    save_file(tensors, path)
    rewrite(copy)
    with pytest.raises(ArtifactError, match=f"{file}.safetensors"):
        load_serving_model(copy)


@pytest.mark.parametrize("name", [artifact.WEIGHTS, "rules.safetensors", "merchant_risk.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_safetensors_file_is_refused(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    rewrite(copy)
    with pytest.raises(ArtifactError, match=name):
        PantherModel.load(copy) if name == artifact.WEIGHTS else load_serving_model(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"amount_edges": [2.0, 1.0]},
        {"amount_edges": [float(i) for i in range(300)]},
        {"risk_levels": 0},
        {"gap_edges_ms": [2**63]},
        {"profile": [{"name": str(i)} for i in range(9)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_schema_whose_codes_do_not_fit_is_refused(copy: Path, change: dict[str, Any]) -> None:
    schema = json.loads((copy / "schema.json").read_bytes()) | change
    (copy / "schema.json").write_text(json.dumps(schema))
    rewrite(copy)
    with pytest.raises(ArtifactError, match=r"schema\.json"):
        artifact.load_schema(copy)


@pytest.mark.parametrize("change", [{"keys": [3, 2]}, {"keys": [-1]}, {"keys": [2**62]}, {"radix": [1, 1, 1, 1]}])
def test_a_vocabulary_that_does_not_fit_the_schema_is_refused(copy: Path, change: dict[str, Any]) -> None:
    (copy / "vocabulary.json").write_text(json.dumps(json.loads((copy / "vocabulary.json").read_bytes()) | change))
    rewrite(copy)
    with pytest.raises(ArtifactError, match=r"vocabulary\.json"):
        artifact.load_vocabulary(copy)


def test_what_is_exported_does_not_change_with_the_artifact(artifact_folder: Path, copy: Path, tmp_path: Path) -> None:
    export(copy, tmp_path / "repository")
    inside = tmp_path / "repository" / MODELS[0] / "1" / "artifact"
    for name in ("schema.json", "rules.safetensors", artifact.WEIGHTS):
        assert (inside / name).stat().st_ino != (copy / name).stat().st_ino
        (copy / name).write_bytes(b"changed in place")
    PantherModel.load(inside)


def test_saving_again_leaves_files_that_were_linked_elsewhere(copy: Path, tmp_path: Path) -> None:
    """Repositories of earlier releases hold hard links to the artifact's files."""
    manifest, names = artifact.load_manifest(copy), (artifact.MANIFEST, "schema.json", "rules.safetensors")
    parts = (artifact.load_schema(copy), artifact.load_vocabulary(copy), artifact.load_rules(copy))
    risk, before = artifact.load_merchant_risk(copy), {}
    for name in names:
        os.link(copy / name, tmp_path / name)
        before[name] = (tmp_path / name).read_bytes()
    other = msgspec.structs.replace(parts[0], categories=("other",))
    rules = RuleModel(parts[2].mean + 1, parts[2].std, parts[2].weight, 0.5)
    artifact.save(copy, msgspec.structs.replace(manifest, seed=99), other, parts[1], rules, risk)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert all((copy / name).read_bytes() != before[name] for name in names)


def test_a_failed_load_removes_only_what_it_has_put_there(artifact_folder: Path, copy: Path, tmp_path: Path) -> None:
    repository, nobody = tmp_path / "repository", PantherSettings(triton_url="127.0.0.1:1")
    rewrite(copy, version=2)
    export(artifact_folder, repository)
    for folder in (artifact_folder, copy):
        with pytest.raises(DeployError):
            install(nobody, repository, folder)
    assert {model: sorted(p.name for p in (repository / model).iterdir()) for model in MODELS} == {
        model: ["1", "config.pbtxt"] for model in MODELS
    }
