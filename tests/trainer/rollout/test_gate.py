"""The gate of a refresh: each sabotage is refused, for its own reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from panther_core.artifact import load_manifest
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.evaluation import fraud_metrics
from trainer.drift.scored import scores_of
from trainer.fit.dataset import split
from trainer.fit.train_config import preset
from trainer.rollout.checks import Check, refusals
from trainer.rollout.gate import Window, judge

N, USERS, THRESHOLD, BUDGET = 20_000, 400, 0.9, 0.01
Floats = NDArray[np.float64]


def rows(seed: int = 3) -> tuple[NDArray[np.int8], NDArray[np.int32], Floats]:
    """Labels, users, and a calibrated score that knows the labels a little."""
    rng = np.random.default_rng(seed)
    chance = np.where(rng.random(N) < 0.03, 0.6, 0.002) * rng.uniform(0.5, 1.5, N)
    return (rng.random(N) < chance).astype(np.int8), rng.integers(0, USERS, N).astype(np.int32), chance


def worse(score: Floats, share: float, seed: int = 4) -> Floats:
    """Some rows get another row's score: as calibrated, and less sharp."""
    rng, out = np.random.default_rng(seed), score.copy()
    some = np.flatnonzero(rng.random(len(score)) < share)
    out[some] = score[rng.permutation(some)]
    return out


def window() -> Window:
    """A challenger that is better than its champion."""
    label, user, chance = rows()
    kinds = ["food", "fuel"], (np.arange(N) % 7 == 0).astype(np.int64)
    return Window(label, user, {"category": kinds}, champion=worse(chance, 0.4), challenger=chance)


def alerted(judged: Window) -> tuple[float, float]:
    return float((judged.champion >= THRESHOLD).mean()), float((judged.challenger >= THRESHOLD).mean())


def failed(judged: Window, *, latency: tuple[float, float] = (4.0, 4.1), shifts: float = 0.01) -> list[str]:
    checks = judge(judged, alerted(judged), BUDGET, latency, {"amount": 0.001, "hour": shifts})
    assert len(refusals(checks)) == sum(not check.held for check in checks)
    return [check.check for check in checks if not check.held]


def test_the_frauds_of_a_few_users_tell_nothing() -> None:
    """However clear they are: an interval over users is none where five of them have all frauds."""
    label = np.zeros(N, np.int8)
    label[:200] = 1
    few = replace(window(), label=label, user=np.minimum(np.arange(N) // 40, USERS).astype(np.int32), slices={})
    few = replace(few, champion=np.linspace(0.02, 0, N), challenger=np.where(label, 0.9, 1e-3))
    few = replace(few, champion=few.champion[::-1].copy())
    check = judge(few, (0, 0), BUDGET, None, {})[0]
    assert check.interval is not None
    assert check.interval[0] > 0
    assert (check.check, check.held) == ("average_precision", False)
    assert check.why.endswith("on the frauds of 5 users, where fewer than 6 say nothing")
    six = replace(few, user=np.minimum(np.arange(N) // 33, USERS).astype(np.int32))
    assert judge(six, (0, 0), BUDGET, None, {})[0].held


def test_a_better_challenger_goes_through() -> None:
    checks = judge(window(), alerted(window()), BUDGET, (4.0, 4.1), {"hour": 0.01})
    assert refusals(checks) == []
    assert {check.check for check in checks} == {
        *("average_precision", "calibration", "slice: category food", "slice: category fuel"),
        *("alert_budget", "latency_ms", "population"),
    }
    better = checks[0]
    assert isinstance(better, Check)
    assert better.champion is not None
    assert better.challenger is not None
    assert better.interval is not None
    assert better.champion < better.challenger
    assert 0 < better.interval[0] < better.challenger - better.champion < better.interval[1]


def test_an_equal_challenger_does_not_win() -> None:
    judged = window()
    assert failed(replace(judged, challenger=judged.champion)) == ["average_precision"]


@pytest.mark.parametrize(
    ("sabotage", "reasons"),
    [
        ("labels shuffled", ["average_precision", "slice: category food", "slice: category fuel"]),
        ("calibration broken", ["calibration"]),
        ("a slice sacrificed", ["slice: category fuel"]),
        ("alerts on everybody", ["calibration", "alert_budget"]),
        ("ten times slower", ["latency_ms"]),
        ("another population", ["population"]),
    ],
)
def test_each_sabotage_is_refused_for_its_own_reason(sabotage: str, reasons: list[str]) -> None:
    judged = window()
    fuel = judged.slices["category"][1] == 1
    challenger = {
        "labels shuffled": np.random.default_rng(9).permutation(judged.challenger),
        "calibration broken": judged.challenger / 10,
        "a slice sacrificed": np.where(fuel, worse(judged.challenger, 0.9, 8), judged.challenger),
        "alerts on everybody": 0.9 + judged.challenger / 20,
    }.get(sabotage, judged.challenger)
    if sabotage == "a slice sacrificed":  # while the whole is better than before
        judged = replace(judged, champion=np.where(fuel, judged.challenger, worse(judged.challenger, 0.98, 5)))
    found = failed(
        replace(judged, challenger=challenger),
        latency=(4.0, 40.0) if sabotage == "ten times slower" else (4.0, 4.1),
        shifts=0.4 if sabotage == "another population" else 0.01,
    )
    assert found == reasons


def test_a_version_is_scored_as_its_training_scored_it(artifact_folder: Path, log: TransactionTable) -> None:
    """The champion's scores are those of its own test rows: one path for what is judged and what was measured."""
    manifest, delay_ms = load_manifest(artifact_folder), DAY_MS
    rows = split(log, preset("tiny"), delay_ms)
    scores, kept = scores_of(artifact_folder, log, rows.test, delay_ms)
    assert np.isnan(scores[~kept]).all()
    found = fraud_metrics(scores[kept], log.label[rows.test][kept])["average_precision"]
    assert found == pytest.approx(manifest.metrics["test"]["average_precision"], abs=1e-9)
