"""Whole histories in stretches."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.model import bulk
from tests.panther_core.model.conftest import random_history


def test_stretches_of_users_hold_every_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    history = random_history(rng, [3, 0, 9, 1, 1, 30, 2])
    wanted = np.sort(rng.permutation(len(history.order))[:20])
    monkeypatch.setattr(bulk, "_WANTED", 6)
    parts = list(bulk.by_users(history, wanted))
    assert np.concatenate([part for part, _, _ in parts]).tolist() == wanted.tolist()
    assert [first for _, first, _ in parts[1:]] == [end for _, _, end in parts[:-1]]
    assert (parts[0][1], parts[-1][2]) == (0, len(history.order))
    users = {int(bound) for bound in history.bounds}
    assert all(
        first in users and (len(part) <= 6 or np.isin(history.user[history.order[first:end]], [5]).all())
        for part, first, end in parts
    )
    assert [len(part) for part, _, _ in bulk.by_users(history, wanted[:0])] == [0], "rows without a history remain"
