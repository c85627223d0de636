"""A short run of `panther chaos`, with three kills."""

from __future__ import annotations

from pathlib import Path

from bench.chaos.experiment import ChaosPlan, run_chaos


def test_three_kills_lose_and_contradict_nothing(tmp_path: Path) -> None:
    kinds = ("worker_killed", "broker_killed", "state_deleted")
    result = run_chaos(tmp_path, ChaosPlan(kills=3, seed=3, rate=100, seconds=20, workers=1, kinds=kinds, users=60))
    assert {trouble["trouble"] for trouble in result["troubles"]} == set(kinds)
    assert result["ok"], result["wrong"]
    assert (result["lost"], result["contradicted"], result["states_wrong"]) == (0, 0, 0)
    assert result["distinct"] > 1000
    assert result["dead_letters"]
    assert result["late"]
    assert result["valid"] > result["distinct"], "some were sent twice"
