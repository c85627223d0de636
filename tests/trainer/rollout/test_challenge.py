"""A challenger on the champion's states: with its weights or with none; and one that has seen the future."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from panther_core.artifact import MANIFEST, load_manifest, load_vocabulary
from panther_core.base.times import DAY_MS
from panther_core.data.events import ModelUpdate
from panther_core.data.table import TransactionTable
from trainer.rollout import challenge as module
from trainer.rollout.announce import check_states
from trainer.rollout.challenge import judge_challenger, train_challenger


@pytest.mark.parametrize("anew", [False, True])
def test_a_challenger_goes_on_with_the_states_of_the_champion(
    anew: bool, log: TransactionTable, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANEW", "tiny")
    later = log.take(slice(len(log) // 3, None))  # other behaviours are frequent in it
    base = Path(shutil.copytree(artifact_folder, tmp_path / "1"))
    champion = msgspec.structs.replace(load_manifest(base), alert_budget=0.02)
    (base / MANIFEST).write_bytes(msgspec.json.encode(champion))
    trained = train_challenger(later, base, tmp_path / "2", 2, DAY_MS, anew=anew)
    assert trained.alert_budget == champion.alert_budget == 0.02, "and with its alert budget"
    live = ModelUpdate(
        name="panther",
        version=1,
        threshold=0.5,
        schema_fingerprint=champion.schema_fingerprint,
        artifact=str(artifact_folder),
    )
    check_states(trained, live)
    tokens = [load_vocabulary(folder) for folder in (artifact_folder, tmp_path / "2")]
    assert (msgspec.json.encode(tokens[0]) != msgspec.json.encode(tokens[1])) is anew
    found = judge_challenger(log, artifact_folder, tmp_path / "2", DAY_MS)
    assert found.checks
    assert load_manifest(tmp_path / "2").seen_until >= champion.seen_until


def test_alerts_are_counted_on_payments_without_labels_too(log: TransactionTable, artifact_folder: Path) -> None:
    """Where labels come for what was investigated alone, the share of alerts among those is not that of the stream."""
    whole = judge_challenger(log, artifact_folder, artifact_folder, DAY_MS)
    drop = (log.label == 0) & (np.arange(len(log)) % 10 > 0) & (np.arange(len(log)) < len(log) - 1)
    fewer = replace(log, label=np.where(drop, -1, log.label).astype(np.int8))
    found = judge_challenger(fewer, artifact_folder, artifact_folder, DAY_MS)
    assert found.scores.shape == whole.scores.shape
    shares = [next(c.challenger for c in one.checks if c.check == "alert_budget") for one in (whole, found)]
    assert shares[0] == pytest.approx(shares[1])
    assert shares[0] == pytest.approx((found.scores >= load_manifest(artifact_folder).threshold).mean())


@pytest.mark.parametrize(("hours", "told"), [(12, False), (30, True)])
def test_the_gate_compares_hours_where_the_payments_are_of_a_day(hours: int, told: bool) -> None:
    """The newest twentieth of a log of ten days is half a day."""
    rng = np.random.default_rng(0)

    def codes(hour: NDArray[np.int64]) -> module.Codes:
        return {name: rng.integers(4, size=len(hour)) for name in ("amount", "channel", "category", "risk")} | {
            "hour": hour % 168
        }

    shifts = module._shifts(codes(np.arange(20_000)), codes(np.arange(2000) % hours))
    assert ("hour of the day" in shifts) is told
    assert max(shifts.values()) < 0.25


def test_a_challenger_that_has_seen_the_future_has_nothing_to_be_judged_by(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    """It was trained on payments up to the log's end, as one that somebody trains by hand may be."""
    trained = train_challenger(log, artifact_folder, tmp_path / "2", 2, DAY_MS)
    assert len(judge_challenger(log, artifact_folder, tmp_path / "2", DAY_MS).checks) > 1
    seen = msgspec.structs.replace(trained, fitted_until=int(log.time_ms[-1]) + 1)
    (tmp_path / "2" / MANIFEST).write_bytes(msgspec.json.encode(seen))
    (check,) = judge_challenger(log, artifact_folder, tmp_path / "2", DAY_MS).checks
    assert (check.check, check.held) == ("window", False)
    assert "0 payments that neither version has learnt from" in check.why
