"""What a training says of its model: faults that are there, none that are not, and no promotion past them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from trainer.report.facts import Fraud, load
from trainer.report.verdict import by_chance, faults, lines, thresholds
from trainer.rollout.go_live import refuse


@pytest.fixture
def fraud(artifact_folder: Path) -> Fraud:
    """Figures of a model that nothing speaks against."""
    found = load(artifact_folder).fraud
    best = msgspec.structs.replace(found.scorers[0], metrics=found.scorers[0].metrics | {"average_precision": 0.9})
    gains = dict.fromkeys(found.gains, (0.1, -0.1, 0.2))
    return msgspec.structs.replace(found, scorers=[best, *found.scorers[1:]], gains=gains, alert_budget=0.005, robbed=9)


def first(rate: float) -> dict[str, dict[str, float]]:
    return {"test_first_events": {"alert_rate": rate, "precision": 0.1}}


def test_a_good_model_has_no_fault(fraud: Fraud) -> None:
    assert faults(fraud, first(0.01)) == []


@pytest.mark.parametrize("name", ["rules", "gradient boosting", "gradient boosting + PANTHER"])
def test_a_model_below_another_beyond_the_interval_is_at_fault(fraud: Fraud, name: str) -> None:
    close = msgspec.structs.replace(fraud, gains=fraud.gains | {name: (-0.1, -0.2, 0.001)})
    assert faults(close, first(0)) == []
    below = msgspec.structs.replace(fraud, gains=fraud.gains | {name: (-0.1, -0.2, -0.001)})
    (fault,) = faults(below, first(0))
    assert f"below that of {name} on the same rows by 0.100 [0.001, 0.200]" in fault


def test_other_faults_are_named(fraud: Fraud) -> None:
    (fault,) = faults(fraud, first(0.0101))
    assert "1.0% of users' first five events alert" in fault
    (fault,) = faults(msgspec.structs.replace(fraud, robbed=4), first(0))
    assert "too few to tell" in fault
    turned = msgspec.structs.replace(fraud, rows=100, frauds=90)
    assert any("90% of the test rows are frauds" in fault for fault in faults(turned, first(0)))
    figures = fraud.scorers[0].metrics | {"average_precision": by_chance(fraud.rows, fraud.frauds) - 1e-9}
    useless = msgspec.structs.replace(
        fraud, scorers=[msgspec.structs.replace(fraud.scorers[0], metrics=figures), *fraud.scorers[1:]]
    )
    assert any("cannot be told from chance" in fault for fault in faults(useless, first(0)))


def test_chance_is_what_shuffled_labels_give() -> None:
    rng = np.random.default_rng(1)
    label = (np.arange(3000) < 40).astype(np.int8)
    tries = [average_precision_score(rng.permutation(label), rng.random(3000)) for _ in range(1500)]
    assert by_chance(3000, 40) == pytest.approx(np.quantile(tries, 0.975), rel=0.2)


def test_a_version_at_fault_is_not_promoted_unasked(artifact_folder: Path) -> None:
    manifest = load_manifest(artifact_folder)
    metrics = {name: value for name, value in manifest.metrics.items() if name != "faults"}
    refuse(msgspec.structs.replace(manifest, metrics=metrics))  # of an older release
    refuse(msgspec.structs.replace(manifest, metrics=metrics | {"faults": []}))
    with pytest.raises(BadInput, match=r"it is bad; it is worse. Train on .* or give --anyway"):
        refuse(msgspec.structs.replace(manifest, metrics=metrics | {"faults": ["it is bad", "it is worse"]}))


def test_the_end_of_a_training_names_the_fault(artifact_folder: Path, fraud: Fraud) -> None:
    manifest = load_manifest(artifact_folder)
    good, bad = (
        msgspec.structs.replace(manifest, metrics=manifest.metrics | {"faults": found}) for found in ([], ["it is bad"])
    )
    said = list(lines(artifact_folder, good, fraud, 10.0))
    assert len(said) == 4
    # a refresh or a simulation goes on by itself: the command `panther models train` alone says what comes next
    assert not any("next: " in line for line in said)
    said = list(lines(artifact_folder, bad, fraud, 10.0))
    assert "should not go live:[/] it is bad" in said[-1]


def test_other_thresholds_are_measured_on_the_same_rows() -> None:
    score = np.linspace(0, 1, 1000)
    label = (np.arange(1000) >= 990).astype(np.int8)
    rows = thresholds(score, score, label, np.full(1000, 2.0), np.linspace(0, 10 * 86_400_000, 1000).astype(np.int64))
    half = next(row for row in rows if row["budget"] == 0.005)
    assert (half["alerts_a_day"], half["precision"], half["recall"], half["money"]) == (0.5, 1.0, 0.5, 0.5)
    assert [row["recall"] for row in rows] == sorted(row["recall"] for row in rows)
