"""A model version without its network: what a decision needs beside the model's answers, read from the artifact.

Imports no torch, which the worker does not install.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panther_core import artifact
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.decide.decisions import LiveModel
from panther_core.state.record import StateCodec


@dataclass(frozen=True)
class ServingModel:
    """A model version as the worker and the replay use it."""

    live: LiveModel
    schema: AttributeSchema
    risk: MerchantRisk
    codec: StateCodec
    tokenizer_version: str
    content: str = ""
    """Checksum of the artifact's files (Manifest.content)."""
    merchant_threshold: float | None = None
    """Log odds from which on a merchant is an alert; None: no merchant is."""


def load_serving_model(folder: Path) -> ServingModel:
    """Read an artifact, checksums verified. Raises ArtifactError."""
    manifest = artifact.load_manifest(folder)
    schema = artifact.load_schema(folder)
    return ServingModel(
        live=LiveModel(
            version=manifest.version,
            threshold=manifest.threshold,
            rules=artifact.load_rules(folder),
            typical_surprise=np.asarray(manifest.typical_surprise, np.float32),
        ),
        schema=schema,
        risk=artifact.load_merchant_risk(folder),
        codec=StateCodec(schema, manifest.context_length, manifest.cached_width),
        tokenizer_version=manifest.tokenizer_version,
        content=manifest.content,
        merchant_threshold=manifest.merchant_threshold,
    )
