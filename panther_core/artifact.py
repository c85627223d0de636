"""A model version on disk: a folder of JSON and safetensors, read without unpickling anything and without torch.

manifest.json              everything about the version, and the sha256 of each file below but report.html
schema.json                AttributeSchema
vocabulary.json            Vocabulary
model.safetensors          encoder and fraud head (panther_core.model)
rules.safetensors          RuleModel
merchant_risk.safetensors  MerchantRisk
pretrain.csv               losses and validation figures by epoch
tokenizer.json             the tokens by name (panther_core.data.token_report), for people
tokenizer_report.json      what the tokens cover, for people
report.json                figures of the training (trainer.report)
report.html                page drawn from report.json
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file

from panther_core.base.errors import ArtifactError, FingerprintMismatch
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.token_report import REPORT, TOKENIZER
from panther_core.data.vocabulary import Vocabulary
from panther_core.decide.rules import RuleModel
from panther_core.model_config import ModelConfig
from panther_core.state.features import NAMES

MANIFEST, WEIGHTS, CURVE = "manifest.json", "model.safetensors", "pretrain.csv"
RUN_REPORT, PAGE = "report.json", "report.html"
_SCHEMA, _VOCABULARY = "schema.json", "vocabulary.json"
_RULES, _RISK = "rules.safetensors", "merchant_risk.safetensors"
T = TypeVar("T")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model version is. Times are epoch ms; `data_window` is the first and last event time of the training
    log."""

    name: str
    version: int
    created_at: int
    config: ModelConfig
    context_length: int
    cached_width: int
    feature_names: tuple[str, ...]
    typical_surprise: tuple[float, ...]
    """Mean surprise of each attribute (scoring.SURPRISE) on legitimate events, nats. A reason says how far an event's
    surprise lies above this mean."""
    threshold: float
    alert_budget: float
    """Share of transactions that the threshold was set to alert on."""
    schema_fingerprint: str
    tokenizer_version: str
    vocabulary_size: int
    coverage: float
    """Share of training events whose combination is in the vocabulary."""
    metrics: dict[str, Any]
    data_window: tuple[int, int]
    seed: int
    code_version: str
    files: dict[str, str] = {}
    """sha256 of each other file, hex."""


def save(
    folder: Path,
    manifest: Manifest,
    schema: AttributeSchema,
    vocabulary: Vocabulary,
    rules: RuleModel,
    risk: MerchantRisk,
) -> Manifest:
    """Write schema, vocabulary, rules, merchant risks and, last, the manifest, which is returned with checksums.

    The weights must lie in `folder` already, and so must pretrain.csv and the reports to be checksummed.
    """
    (folder / _SCHEMA).write_bytes(msgspec.json.encode(schema))
    (folder / _VOCABULARY).write_bytes(msgspec.json.encode(vocabulary))
    save_file(
        {"mean": rules.mean, "std": rules.std, "weight": rules.weight, "bias": np.array([rules.bias], np.float64)},
        folder / _RULES,
    )
    save_file({"merchant": risk.merchant, "levels": risk.levels, "rate": risk.rate}, folder / _RISK)
    names = [_SCHEMA, _VOCABULARY, WEIGHTS, _RULES, _RISK]
    names += [name for name in (TOKENIZER, REPORT, CURVE, RUN_REPORT) if (folder / name).exists()]
    files = {name: sha256(folder / name) for name in names}
    manifest = msgspec.structs.replace(manifest, files=files)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def load_manifest(folder: Path) -> Manifest:
    """Manifest of the artifact in `folder`, every file's checksum verified.

    Raises ArtifactError (missing or damaged) and FingerprintMismatch (made for other context features).
    """
    manifest = _json(folder / MANIFEST, Manifest)
    for name, expected in manifest.files.items():
        if (got := sha256(folder / name)) != expected:
            raise ArtifactError(
                f"expected sha256 {expected[:12]} of {name}, got {got[:12]} in {folder}: the file was changed or cut "
                "off after training; copy the artifact again or train anew"
            )
    if manifest.feature_names != NAMES:
        differing = sorted(set(manifest.feature_names) ^ set(NAMES)) or "their order"
        raise FingerprintMismatch(
            f"expected a model for this code's {len(NAMES)} context features, got one for "
            f"{len(manifest.feature_names)} in {folder} (differing: {differing}): "
            f"use the code version {manifest.code_version} or train anew"
        )
    return manifest


def load_schema(folder: Path) -> AttributeSchema:
    """Attribute schema of the artifact. Raises ArtifactError, FingerprintMismatch."""
    schema = _json(folder / _SCHEMA, AttributeSchema)
    expected = _json(folder / MANIFEST, Manifest).schema_fingerprint
    if schema.fingerprint != expected:
        raise FingerprintMismatch(
            f"expected schema {expected[:12]}, got {schema.fingerprint[:12]} in {folder / _SCHEMA}: "
            "the folder mixes two artifacts; copy it again"
        )
    return schema


def load_vocabulary(folder: Path) -> Vocabulary:
    """Vocabulary of the artifact. Raises ArtifactError."""
    return _json(folder / _VOCABULARY, Vocabulary)


def load_rules(folder: Path) -> RuleModel:
    """Rule model of the artifact. Raises ArtifactError."""
    parts = _tensors(folder / _RULES)
    return RuleModel(parts["mean"], parts["std"], parts["weight"], float(parts["bias"][0]))


def load_merchant_risk(folder: Path) -> MerchantRisk:
    """Merchant risk table of the artifact. Raises ArtifactError."""
    return MerchantRisk(**_tensors(folder / _RISK))


def _json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(_read(path), type=kind)
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"expected a {kind.__name__} in {path}, got {error}: the file is damaged or of another code version; "
            "copy the artifact again or train anew"
        ) from None


def _tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    _read(path)
    tensors: dict[str, np.ndarray[Any, Any]] = load_file(path)
    return tensors


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"expected the artifact file {path}, got {error.strerror}: point at a folder that "
            "`panther models train` wrote"
        ) from None


def sha256(path: Path) -> str:
    """Checksum of a file, hex. Raises ArtifactError when it cannot be read."""
    return hashlib.sha256(_read(path)).hexdigest()
