"""A replay in chunks decides what a replay in one go decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.replay import Replayer, replay
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model

EXACT = ("transaction", "threshold", "history_len", "model_version", "flags", "degraded", "expected", "scored_at")


def troubled(log: TransactionTable) -> TransactionTable:
    """The log with redeliveries, near and far, and events that come late."""
    rows = np.arange(len(log))
    rows[50:60] = rows[50:60][::-1]
    rows = np.insert(rows, [200, 900, 901], [195, 896, 897])
    return log.take(rows)


@pytest.mark.parametrize("chunk", [37, 500, 1999])
def test_chunks_decide_as_the_whole(log: TransactionTable, artifact_folder: Path, chunk: int) -> None:
    serving, model = load_serving_model(artifact_folder), PantherModel.load(artifact_folder)
    table = troubled(log)
    floor = float(np.quantile(replay(table, serving, model).decision["score"], 0.9))
    serving = replace(serving, live=replace(serving.live, threshold=floor))
    whole = replay(table, serving, model)
    assert not whole.kept.all()
    assert (whole.decision["history_len"] > serving.codec.length).any()

    replayer = Replayer(serving, model)
    parts = [replayer.decide(table.take(slice(low, low + chunk))) for low in range(0, len(table), chunk)]
    np.testing.assert_array_equal(np.concatenate([part.kept for part in parts]), whole.kept)
    decision = np.concatenate([part.decision for part in parts])
    np.testing.assert_allclose(decision["score"], whole.decision["score"], atol=2e-6)
    near = np.abs(whole.decision["score"] - floor) < 2e-6  # one rounding away from the threshold
    for name in EXACT:
        np.testing.assert_array_equal(decision[name][~near], whole.decision[name][~near], err_msg=name)
    np.testing.assert_allclose(decision["contribution"][~near], whole.decision["contribution"][~near], atol=1e-3)


def test_a_profile_change_between_chunks_counts_as_in_one_stream(log: TransactionTable, artifact_folder: Path) -> None:
    serving, model = load_serving_model(artifact_folder), PantherModel.load(artifact_folder)
    first, second = log.take(slice(0, 1000)), log.take(slice(1000, 2000))
    flipped = {name: values[::-1] for name, values in second.profile.items()}
    second = replace(second, profile=flipped)
    both = Replayer(serving, model)
    both.decide(first)
    changed = both.decide(second).decision
    single = Replayer(serving, model)  # the same, a row at a time: every window is encoded with its own profile
    single.decide(first)
    rows = [single.decide(second.take(slice(i, i + 1))).decision for i in range(300)]
    np.testing.assert_allclose(changed["score"][:300], np.concatenate(rows)["score"], atol=2e-6)
