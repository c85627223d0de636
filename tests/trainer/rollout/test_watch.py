"""What is said of a version in the stream: each fault for its own reason, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.drift.reference import score_bins
from trainer.rollout.checks import refusals
from trainer.rollout.decided import DECIDED
from trainer.rollout.shadow_report import Changed, ShadowReport
from trainer.rollout.watch import judge_live, judge_shadow


def decisions(count: int = 4000, seed: int = 0, **changes: Any) -> NDArray[np.void]:
    """A stream's decisions, of which one in a hundred is an alert."""
    rng = np.random.default_rng(seed)
    out = np.zeros(count, DECIDED)
    out["version"], out["latency_ms"] = 2, rng.gamma(2, 4, count)
    out["score"] = 1 / (1 + np.exp(-rng.normal(-5, 1.5, count)))
    out["alert"] = out["score"] >= np.quantile(out["score"], 0.99)
    for name, value in changes.items():
        out[name] = value(out[name], rng) if callable(value) else value
    return out


SEEN = score_bins(decisions(seed=9)["score"]).tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [300, 4000])
def test_a_version_that_does_what_it_did_offline_is_left_alone(count: int, seed: int) -> None:
    checks = judge_live(2, decisions(count, seed + 10), decisions(count, seed), 0.01, SEEN)
    assert {check.check for check in checks} == {"live_errors", "live_alert_rate", "live_latency_ms", "live_scores"}
    assert refusals(checks) == []


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("live_errors", {"degraded": lambda was, rng: rng.random(len(was)) < 0.1}),
        ("live_latency_ms", {"latency_ms": lambda was, rng: was * 4}),
        ("live_alert_rate", {"alert": lambda was, rng: rng.random(len(was)) < 0.08}),
        ("live_alert_rate", {"alert": False}),
        ("live_scores", {"score": lambda was, rng: np.sqrt(was)}),
    ],
    ids=["errors", "latency", "too many alerts", "no alert at all", "other scores"],
)
def test_each_fault_is_found_for_its_own_reason(fault: str, changes: dict[str, Any]) -> None:
    checks = judge_live(2, decisions(seed=1), decisions(**changes), 0.01, SEEN)
    assert [check.check for check in checks if not check.held] == [fault]


def test_few_decisions_say_nothing_and_the_report_says_so() -> None:
    (check,) = judge_live(2, decisions(), decisions(299, degraded=True), 0.01, SEEN)
    assert (check.check, check.held, check.challenger) == ("live_decisions", True, 299)
    assert "299 decisions to judge it by; fewer than 300 say nothing" in check.why


def shadow(payments: int, alerts: int, frauds: int = 0) -> ShadowReport:
    """Of a shadow whose average precision is worse on its matured frauds, where it has any."""
    none = Changed(0, 0, 0, 0, 0, [])
    return ShadowReport(
        version=2,
        live_versions={"1": payments},
        since_ms=0,
        until_ms=1,
        payments=payments,
        only_shadow=0,
        shorter_history=0,
        agreement=0.9,
        alerts_live=10,
        alerts_shadow=alerts,
        gained=none,
        lost=none,
        rank_correlation=0.9,
        score_shift=0.0,
        judged=payments,
        frauds=frauds,
        average_precision_live=0.5,
        average_precision_shadow=0.1,
        interval=(-0.5, -0.3) if frauds else None,
    )


def test_a_shadow_is_judged_on_enough_decisions_and_enough_frauds() -> None:
    (check,) = judge_shadow(shadow(299, alerts=299, frauds=100), 0.01)
    assert (check.check, check.held) == ("shadow_decisions", True)
    assert "fewer than 300" in check.why
    assert [(c.check, c.held) for c in judge_shadow(shadow(1000, alerts=10, frauds=19), 0.01)] == [
        ("shadow_alert_rate", True)
    ]
    assert [(c.check, c.held) for c in judge_shadow(shadow(1000, alerts=100, frauds=20), 0.01)] == [
        ("shadow_alert_rate", False),
        ("shadow_average_precision", False),
    ]


def test_a_stream_that_was_slow_before_is_not_the_versions_fault() -> None:
    slow = {"latency_ms": lambda was, rng: was * 4}
    assert refusals(judge_live(2, decisions(**slow), decisions(seed=3, **slow), 0.01, SEEN)) == []


def test_a_version_that_no_worker_takes_is_found() -> None:
    (check,) = judge_live(2, decisions(version=1), decisions(version=1), 0.01, SEEN)
    assert (check.check, check.held) == ("live_version", False)
    mixed = decisions(1000, version=lambda was, rng: rng.integers(1, 3, len(was)))
    assert refusals(judge_live(2, decisions(version=1), mixed, 0.01, SEEN)) == [], "a worker is late"
