"""Every metric of the worker, in one typed list that is also their documentation (Prometheus conventions)."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


@dataclass(frozen=True)
class Metrics:
    """The worker's metrics."""

    #: valid transactions taken in, redeliveries included
    transactions: Counter = Counter("panther_transactions", "Valid transactions taken in")
    #: decisions published, by how they were made (live, cached, rules) and whether new or repeated
    decisions: Counter = Counter("panther_decisions", "Decisions published", ["made", "kind"])
    #: alerts published, repeated ones included
    alerts: Counter = Counter("panther_alerts", "Alerts published")
    #: records sent to the dead-letter topic, by reason code
    dead_letters: Counter = Counter("panther_dead_letters", "Dead letters", ["code"])
    #: seconds of one model call from the worker's side, by step (score, encode)
    model_seconds: Histogram = Histogram("panther_model_seconds", "Model call", ["step"], buckets=_SECONDS)
    #: model calls that got no answer in time
    model_failures: Counter = Counter("panther_model_failures", "Model calls without answer", ["step"])


METRICS = Metrics()
