"""Every metric of the worker, in one list that is also their documentation (Prometheus conventions).

docs/metrics.md is made from this list: `python -m stream.ops.metrics > docs/metrics.md`. The hot path counts a whole
micro-batch in one call. Most gauges are read once a second (stream.worker.watch).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class BatchHistogram(Collector):
    """A histogram that takes a micro-batch of values in one call, at about the cost of one value in the library's."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...]) -> None:
        self._name, self._documentation = name, documentation
        self._edges = np.array(buckets, np.float64)
        self._counts, self._sum = np.zeros(len(buckets) + 1, np.int64), 0.0
        REGISTRY.register(self)

    def observe_many(self, values: ArrayLike) -> None:
        """Count every value in the first bucket whose edge is not below the value."""
        values = np.asarray(values, np.float64)
        counts = np.bincount(np.searchsorted(self._edges, values), minlength=len(self._counts))
        self._counts, self._sum = self._counts + counts, self._sum + float(values.sum())

    def counts(self) -> NDArray[np.int64]:
        """Values counted so far in each bucket, the last one above all edges."""
        return self._counts.copy()

    def edge_above(self, share: float, counts: NDArray[np.int64]) -> str:
        """The edge, as text with its unit, below which at least `share` of `counts` lie."""
        place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
        return f"{self._edges[place] * 1000:g} ms" if place < len(self._edges) else f"over {self._edges[-1]:g} s"

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What the library asks for at each scrape."""
        edges = [*map(str, self._edges.tolist()), "+Inf"]
        buckets = list(zip(edges, np.cumsum(self._counts).tolist(), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


# What comes in and goes out
TRANSACTIONS = Counter("panther_transactions", "Valid transactions taken in, redeliveries included")
REDELIVERED = Counter(
    "panther_redelivered", "Transactions that were applied before: answered from the state, or not at all"
)
DECISIONS = Counter(
    "panther_decisions",
    "Decisions published. made: live, or the step of the degrade ladder (cached, rules); kind: new or repeated",
    ["made", "kind"],
)
LATE = Counter("panther_late", "New decisions on events older than their user's newest")
ALERTS = Counter("panther_alerts", "Alerts published, repeated ones included")
DEAD_LETTERS = Counter(
    "panther_dead_letters", "Records sent to the dead-letter topic. code: docs/outcomes.md", ["code"]
)
USER_COMMANDS = Counter(
    "panther_user_commands",
    "Commands about one user, once for each partition. command: reset, forget, unreadable (skipped)",
    ["command"],
)
LABELS = Counter(
    "panther_labels",
    "Labels taken in. what: told (to the merchant), repeated (nothing new), unknown (no such payment is kept, or two of"
    " this id), unreadable (skipped)",
    ["what"],
)
LABELS_EARLY = Gauge("panther_labels_early", "Labels that have come before their payment, and wait for it.")
MERCHANT_EVENTS = Counter(
    "panther_merchant_events",
    "Events taken in by `panther merchants`. kind: payment, label, repeated (counted before), unreadable (skipped)",
    ["kind"],
)
RISK_UNREADABLE = Counter("panther_risk_unreadable", "Records of merchant.risk that are none, and were skipped")
MERCHANT_RISK = Counter("panther_merchant_risk", "Records of merchants published by `panther merchants`")
MERCHANT_ALERTS = Counter("panther_merchant_alerts", "Alerts on merchants published by `panther merchants`")
SWEPT = Counter("panther_users_swept", "Users moved to the live model version without an event of theirs")

# How long it takes, and how much at once
DECISION_SECONDS = BatchHistogram(
    "panther_decision_seconds",
    "From a transaction's timestamp in Kafka until its new decision is known to be durable there: end to end",
    _SECONDS,
)
STEP_SECONDS = Histogram(
    "panther_step_seconds",
    "One step of one micro-batch. step: decode, state_read, score, explain, encode (calls of the models), publish "
    "(until decisions are durable), state_write (to RocksDB, and handed to the producer), changelog (until durable)",
    ["step"],
    buckets=_SECONDS,
)
BATCH_EVENTS = Histogram("panther_batch_events", "Events of a micro-batch", buckets=_EVENTS)
EVENTS_WAITING = Gauge(
    "panther_events_waiting",
    "Events fetched and not finished. where: queue (in no micro-batch yet), worker (taken in, not acked)",
    ["where"],
)
CONSUMER_LAG = Gauge(
    "panther_consumer_lag", "Transactions in Kafka that the worker has not taken in. partition", ["partition"]
)
TRIMMED = Counter("panther_records_trimmed", "Transactions that retention deleted before they were read")
LOG_EPOCHS = Counter("panther_log_changed", "Partitions of transactions found to be another log than the states knew")
HOT_USERS = Gauge("panther_hot_users", "Users who send faster than one event a micro-batch, so that theirs wait")

# The models
MODEL_VERSION = Gauge("panther_model_version", "Model version that is live; 0 before the first")
MODEL_FAILURES = Counter("panther_model_failures", "Model calls that got no answer in time. step", ["step"])
MODEL_RETRIES = Counter("panther_model_retries", "Model calls tried again on another Triton replica. step", ["step"])
ENCODED = Counter(
    "panther_users_encoded",
    "Users encoded: once an event, and once more before it where a new version or an outage left them behind. What the "
    "cache made of it the server counts: panther_cache_* in Triton's own metrics",
)
REPLICA_UP = Gauge(
    "panther_replica_up", "1 where a Triton replica and all models asked of it answer. replica", ["replica"]
)
REPLICA_HEALS = Counter(
    "panther_replica_heals", "Models loaded again as their process was dead. replica, model", ["replica", "model"]
)

# The state
STATE_BYTES = Gauge(
    "panther_state_bytes", "Size of the state stores. kind: files, memory (written, not in a file yet)", ["kind"]
)
PARTITIONS = Gauge(
    "panther_partitions",
    "Partitions of this worker. state: assigned, ready (restored), standby (a copy for another worker)",
    ["state"],
)
REBALANCES = Counter("panther_rebalances", "Times that partitions were given out anew, the first included")
RESTORED = Counter("panther_restored_records", "Changelog records restored in bulk since the start")
RESTORE_LEFT = Gauge("panther_restore_left_records", "Changelog records still to be restored in bulk")
READY = Gauge("panther_ready", "1 where /readyz answers 200")


def timed(step: str) -> Any:
    """Context manager that measures one step."""
    return STEP_SECONDS.labels(step).time()


def markdown() -> str:
    """The list as docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "`panther worker --metrics-port 9100` answers `GET /metrics`. Made of `stream/ops/metrics.py` by",
        "`python -m stream.ops.metrics > docs/metrics.md`. Labels stand at the end of each text, before their values.",
        "Those of `panther drift --every`, another process: [refresh.md](refresh.md).",
        "",
        "| metric | kind | what it says |",
        "|---|---|---|",
    ]
    for metric in sorted(REGISTRY.collect(), key=lambda metric: metric.name):
        if metric.name.startswith("panther_"):
            name = metric.name + ("_total" if metric.type == "counter" else "")
            lines.append(f"| `{name}` | {metric.type} | {metric.documentation} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
