"""What a worker decided within the last minute, as one line of its log; all from the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter

from stream.ops import metrics

EVERY_S = 60.0


def counted(counter: Counter, label: str | None = None) -> dict[str, float]:
    """The counts of a metric by one of its labels (all under "" where none is named)."""
    counts: dict[str, float] = {}
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                key = sample.labels[label] if label else ""
                counts[key] = counts.get(key, 0) + sample.value
    return counts


def done() -> float:
    """Decisions and dead letters so far: a count that stands still where nothing is decided."""
    return sum(sum(counted(c).values()) for c in (metrics.DECISIONS, metrics.DEAD_LETTERS, metrics.TRANSACTIONS))


class Summary:
    """Gives a line a minute, if anything has happened. `now_s`: a clock that does not go back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._since_s = now_s()
        self._before = self._counts()
        self._latency = metrics.DECISION_SECONDS.counts()

    def line(self, lag: int) -> str | None:
        """The line, where it is time for one. `lag`: transactions that wait in Kafka."""
        now_s = self._now_s()
        if now_s - self._since_s < EVERY_S:
            return None
        counts, latency = self._counts(), metrics.DECISION_SECONDS.counts()
        new = {what: _more(counts[what], self._before[what]) for what in counts}
        observed = latency - self._latency
        within_s, self._since_s, self._before, self._latency = now_s - self._since_s, now_s, counts, latency
        if not lag and not any(new.values()):
            return None
        parts = [
            f"{_total(new['decisions'])} decisions{_each(new['decisions'])}",
            f"{_total(new['alerts'])} alerts",
            f"{_total(new['dead'])} dead letters{_each(new['dead'])}",
            f"lag {lag}",
        ]
        if observed.any():
            p50, p99 = (metrics.DECISION_SECONDS.edge_above(share, observed) for share in (0.5, 0.99))
            parts.append(f"half decided within {p50}, 99 % within {p99}")
        return f"the last {within_s:.0f} s: " + ", ".join(parts)

    def _counts(self) -> dict[str, dict[str, float]]:
        return {
            "decisions": counted(metrics.DECISIONS, "made"),
            "alerts": counted(metrics.ALERTS),
            "dead": counted(metrics.DEAD_LETTERS, "code"),
        }


def _more(now: dict[str, float], before: dict[str, float]) -> dict[str, int]:
    grown = {key: int(count - before.get(key, 0)) for key, count in now.items()}
    return {key: count for key, count in grown.items() if count}


def _total(counts: dict[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _each(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{key} {count:,}' for key, count in sorted(counts.items()))})" if counts else ""
