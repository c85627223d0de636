"""The training config's checks, and that the tokenizer's knobs reach the tokenizer."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core import artifact
from panther_core.errors import BadInput
from panther_core.table import TransactionTable
from trainer.config import TrainConfig, preset
from trainer.pipeline import train


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": 0.0}, "0.01 <= coverage <= 1, got 0.0 in the training config"),
        ({"coverage": 1.1}, "coverage <= 1, got 1.1"),
        ({"amount_scale": "linear"}, "amount_scale out of quantile, log, got 'linear'"),
        ({"amount_buckets": 254}, "amount_buckets <= 253"),
    ],
)
def test_wrong_values_are_named_also_when_a_preset_is_changed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        TrainConfig(**change)
    with pytest.raises(BadInput, match=message):
        msgspec.structs.replace(preset("tiny"), **change)


def test_coverage_and_log_buckets_reach_the_artifact(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(preset("tiny"), epochs=1, head_epochs=1, coverage=0.8, amount_scale="log")
    manifest = train(log, tmp_path, config=config, label_delay_ms=86_400_000)
    assert 0.8 <= manifest.coverage < 0.82
    assert manifest.vocabulary_size < artifact.load_manifest(artifact_folder).vocabulary_size / 2
    ratios = np.diff(np.log(artifact.load_schema(tmp_path).amount_edges))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
