"""A model whose labels tell nothing says so itself, and is not promoted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from bench.fraud.presets import easy
from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from trainer.fit.train_config import preset
from trainer.rollout.go_live import refuse
from trainer.training import train


def test_a_model_of_shuffled_labels_is_called_so_and_not_promoted_and_one_of_true_labels_is_not(tmp_path: Path) -> None:
    table = easy(rows=12_000)
    label = np.random.default_rng(0).permutation(table.label)
    config = structs.replace(preset("tiny"), epochs=1, head_epochs=1, alert_budget=0.02)
    found = {}
    for name, log in (("true", table), ("shuffled", replace(table, label=label))):
        train(log, tmp_path / name, config=config, label_delay_ms=DAY_MS)
        found[name] = " ".join(load_manifest(tmp_path / name).metrics["faults"])
    assert "chance" not in found["true"]
    assert "cannot be told from chance" in found["shuffled"]
    with pytest.raises(BadInput, match="--anyway"):
        refuse(load_manifest(tmp_path / "shuffled"))
