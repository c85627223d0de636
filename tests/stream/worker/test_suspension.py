"""A worker that stood still for too long says so, and goes on saying it."""

from __future__ import annotations

import asyncio

import pytest

from stream.worker import suspension
from stream.worker.suspension import Suspended, Suspension


def test_only_a_gap_beyond_the_limit_counts_and_it_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(suspension, "_now_s", lambda: now_s)
    guard = Suspension(4.0)
    for _ in range(5):
        now_s += 4.0
        guard.check()
    now_s += 4.1
    for _ in range(2):
        with pytest.raises(Suspended, match=r"stood still for 4\.1 s"):
            guard.check()


def test_run_looks_often_enough_and_ends_with_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.01, 0.02, 9.0])
    monkeypatch.setattr(suspension, "_now_s", lambda: next(times))
    with pytest.raises(Suspended):
        asyncio.run(Suspension(0.1).run())
