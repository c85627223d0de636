"""What a report of a shadow says of alerts that come and go, and that it does not say what nobody knows yet.

On a real broker, with a real shadow: tests/offline/shadow/test_follow.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core.base.times import DAY_MS
from panther_core.data.decision import Decision, ModelRef
from trainer.rollout.shadow_report import ShadowReport, _compared, _first

_NOW_MS = 1_760_000_000_000
_MATURED_MS = _NOW_MS - 7 * DAY_MS
_THRESHOLD = 0.5


def decision(number: int, score: float, version: int, **changes: Any) -> Decision:
    """Payment `number`: an even one is of yesterday, an odd one older than labels take."""
    made = Decision(
        transaction_id=f"t{number}",
        user_id=f"u{number % 37}",
        event_time=_NOW_MS - (8 if number % 2 else 1) * DAY_MS,
        scored_at=_NOW_MS + number,
        latency_ms=0,
        score=score,
        threshold=_THRESHOLD,
        alert=score >= _THRESHOLD,
        history_len=3,
        cold_start=False,
        late=False,
        degraded=None,
        model=ModelRef("panther", version),
    )
    return msgspec.structs.replace(made, **changes)


def compared(live: list[float], shadow: list[float], label: list[int], **changes: Any) -> ShadowReport:
    before = [decision(number, score, 1) for number, score in enumerate(live)]
    after = [decision(number, score, 2, **changes) for number, score in enumerate(shadow)]
    known = np.array(label, np.int8)
    return _compared(before, after, known, _MATURED_MS, str.upper, 0, version=2, only_shadow=4)


def test_alerts_that_come_and_go_are_told_by_what_is_known_of_them() -> None:
    gains, losses = [0.9] * 6, [0.1] * 3
    report = compared(
        [0.2] * 6 + [0.8] * 3 + [0.1, 0.9],
        gains + losses + [0.2, 0.7],
        [1, 1, 0, -1, -1, 0, -1, 1, 1, -1, 1],
    )
    assert (report.payments, report.alerts_live, report.alerts_shadow) == (11, 4, 7)
    assert report.agreement == pytest.approx(2 / 11)
    gained, lost = report.gained, report.lost
    assert (gained.alerts, gained.fraud, gained.honest, gained.too_young, gained.unlabelled) == (6, 2, 2, 1, 1)
    assert (lost.alerts, lost.fraud, lost.honest, lost.too_young, lost.unlabelled) == (3, 2, 0, 1, 0)
    assert gained.examples == ["T5", "T4", "T3", "T2", "T1", "T0"]
    assert (report.version, report.live_versions, report.only_shadow) == (2, {"1": 11}, 4)
    assert (report.since_ms, report.until_ms) == (_NOW_MS, _NOW_MS + 10)


def test_only_payments_whose_labels_had_time_to_come_are_judged() -> None:
    """The frauds among yesterday's payments are known already, the honest ones are not: to judge by them would lie."""
    rng = np.random.default_rng(0)
    label = [int(number % 10 == 1) if number % 2 else (1 if number % 10 == 0 else -1) for number in range(400)]
    good = [0.9 * (known == 1) + 0.1 * rng.random() for known in label]
    report = compared(rng.random(400).tolist(), good, label)
    assert (report.judged, report.frauds) == (200, 40)
    assert report.average_precision_shadow == 1
    assert report.average_precision_live is not None
    assert report.interval is not None
    low, high = report.interval
    assert 0.4 < low <= 1 - report.average_precision_live <= high
    early = compared(good, good, [known if number % 2 == 0 else -1 for number, known in enumerate(label)])
    assert (early.judged, early.average_precision_live, early.interval) == (0, None, None)


def test_scores_that_move_are_seen_though_the_verdicts_agree() -> None:
    rng = np.random.default_rng(1)
    live = (0.4 * rng.random(2000)).tolist()
    same, moved = compared(live, live, [-1] * 2000), compared(live, [s / 10 for s in live], [-1] * 2000)
    assert same.score_shift == 0
    assert moved.score_shift is not None
    assert moved.score_shift > 0.25
    assert same.agreement == moved.agreement == 1
    assert same.rank_correlation == pytest.approx(1)
    assert moved.rank_correlation == pytest.approx(1)
    assert compared([0.1, 0.1], [0.2, 0.3], [-1, -1]).rank_correlation is None


def test_nothing_in_common_and_a_shorter_past_are_said() -> None:
    nothing = compared([], [], [])
    assert (nothing.payments, nothing.agreement, nothing.score_shift, nothing.gained.alerts) == (0, None, None, 0)
    assert compared([0.1, 0.2], [0.1, 0.2], [0, 0], history_len=1).shorter_history == 2


def test_the_first_decision_counts_and_an_id_used_again_counts_for_neither_payment() -> None:
    first, again = decision(1, 0.1, 2), decision(1, 0.9, 2)
    reused = decision(2, 0.9, 2, id_reused=True)
    found = _first([first, again, decision(2, 0.3, 2), reused])
    assert found.decisions[("u1", "t1")] is first
    assert found.reused == {("u2", "t2")}
