"""The ablation table: every row is trained, found again, and what differs is what its name says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.quality.ablation import CONFIG, VARIANTS, run_ablation
from panther_core.base.errors import BadInput
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.model_config import ModelConfig

TINY = msgspec.structs.replace(
    CONFIG,
    model=ModelConfig(d=8, layers=1, heads=1, length=16, prototypes=4, user_dim=4, cnn_dim=2, cnn_filters=2),
    epochs=1,
    validation_sample=50,
)


def test_the_table_has_every_variant_and_runs_nothing_twice(tmp_path: Path) -> None:
    table = generate(GeneratorConfig(users=20, days=20, seed=5))
    first = run_ablation(table, PROFILE, tmp_path, seeds=(0,), config=TINY)
    assert list(first["variants"]) == list(VARIANTS)
    for row in first["variants"].values():
        assert 0 <= row["hr@1"]["mean"] <= row["hr@5"]["mean"] <= row["hr@10"]["mean"] <= row["hr@50"]["mean"] <= 1
    sizes = {name: row["parameters"]["mean"] for name, row in first["variants"].items()}
    assert sizes["panther, SPRM only"] > sizes["transformer"], "the pattern branch has parameters"
    lines = (tmp_path / "runs.jsonl").read_bytes().splitlines()
    assert len(lines) == len(VARIANTS)
    assert run_ablation(table, PROFILE, tmp_path, seeds=(0,), config=TINY) == first
    assert (tmp_path / "runs.jsonl").read_bytes().splitlines() == lines


def test_an_unknown_variant_says_which_there_are(tmp_path: Path) -> None:
    table = generate(GeneratorConfig(users=5, days=5, seed=5))
    with pytest.raises(BadInput, match=r"panther, SPRM only.*got bert"):
        run_ablation(table, PROFILE, tmp_path, variants=("bert",), config=TINY)
