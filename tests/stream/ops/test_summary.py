"""The line of the last minute says what the metrics say, and nothing while nothing happens."""

from __future__ import annotations

import numpy as np

from stream.ops import metrics
from stream.ops.summary import EVERY_S, Summary, done


def test_a_minute_is_one_line() -> None:
    now_s = 0.0
    summary = Summary(lambda: now_s)
    before = done()
    metrics.DECISIONS.labels("live", "new").inc(1200)
    metrics.DECISIONS.labels("rules", "new").inc(34)
    metrics.ALERTS.inc(12)
    metrics.DEAD_LETTERS.labels("wrong_key").inc(2)
    metrics.DECISION_SECONDS.observe_many(np.repeat([0.004, 0.15], [1200, 34]))
    assert done() == before + 1236
    assert summary.line(0) is None, "a minute is not over"
    now_s = EVERY_S
    assert summary.line(7) == (
        "the last 60 s: 1,234 decisions (live 1,200, rules 34), 12 alerts, 2 dead letters (wrong_key 2), lag 7, "
        "half decided within 5 ms, 99 % within 200 ms"
    )
    now_s = 2 * EVERY_S
    assert summary.line(0) is None, "nothing happened"
    now_s = 3 * EVERY_S
    assert summary.line(3) == "the last 60 s: 0 decisions, 0 alerts, 0 dead letters, lag 3"
