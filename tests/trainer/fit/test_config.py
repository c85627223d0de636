"""The training config's checks, and that the tokenizer's knobs reach the tokenizer."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core import artifact
from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from trainer.fit.train_config import TrainConfig, from_file, preset
from trainer.training import train


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


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path, base = tmp_path / "own.toml", preset("tiny")
    path.write_text('learning_rate = 1e-3\npatience = 2\n[model]\nencoder = "hstu"\ncnn_widths = [2, 3]\n')
    model = msgspec.structs.replace(base.model, encoder="hstu", cnn_widths=(2, 3))
    assert from_file(path, base) == msgspec.structs.replace(base, learning_rate=1e-3, patience=2, model=model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = 1", "own.toml: .*unknown field `rate`"),
        ("[model]\nwidth = 1", r"unknown field `width` - at `\$.model`"),
        ("epochs = 'many'", r"Expected `int`, got `str` - at `\$.epochs`"),
        ("learning_rate = 7", "learning_rate <= 1, got 7"),
        ("[model]\nlength = 33", "even length"),
        ("model = 3", "Expected `object`, got `int`"),
        ("epochs", "expected a TOML file .*own.toml.*check --config"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        from_file(tmp_path / "own.toml", preset("tiny"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml"):
        from_file(tmp_path / "none.toml", preset("tiny"))


def test_coverage_and_log_buckets_reach_the_artifact(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(preset("tiny"), epochs=1, head_epochs=1, coverage=0.8, amount_scale="log")
    manifest = train(log, tmp_path, config=config, label_delay_ms=86_400_000)
    assert 0.8 <= manifest.coverage < 0.82
    assert manifest.vocabulary_size < artifact.load_manifest(artifact_folder).vocabulary_size / 2
    ratios = np.diff(np.log(artifact.load_schema(tmp_path).amount_edges))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
