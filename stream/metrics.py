"""Every metric of the worker, in one list that is also their documentation (Prometheus conventions)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

TRANSACTIONS = Counter("panther_transactions", "Valid transactions taken in, redeliveries included")
DECISIONS = Counter("panther_decisions", "Decisions published, by how made and whether repeated", ["made", "kind"])
ALERTS = Counter("panther_alerts", "Alerts published, repeated ones included")
DEAD_LETTERS = Counter("panther_dead_letters", "Records sent to the dead-letter topic, by reason code", ["code"])
MODEL_SECONDS = Histogram("panther_model_seconds", "One model call, by step", ["step"], buckets=_SECONDS)
MODEL_FAILURES = Counter("panther_model_failures", "Model calls that got no answer in time", ["step"])
MODEL_RETRIES = Counter("panther_model_retries", "Model calls tried again on another Triton replica, by step", ["step"])
REPLICA_UP = Gauge("panther_replica_up", "1 where a Triton replica and all models asked of it answer", ["replica"])
REPLICA_HEALS = Counter("panther_replica_heals", "Models loaded again as their process was dead", ["replica", "model"])
SWEPT = Counter("panther_users_swept", "Users moved to the live model version without an event of theirs")
