"""What `panther drift --every` exposes to Prometheus, in one list that is also its documentation (docs/refresh.md).

A registry of its own: beside a worker's metrics, a scrape of this process would find a worker that stands still.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from trainer.drift.look import Drift


class DriftGauges:
    """The newest look as gauges, and how often looking failed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"panther_drift_{name}", text, labels, registry=self.registry)

        self._drifted = gauge("drifted", "1 where the newest look found drift. check: each finding", ("check",))
        self._psi = gauge(
            "psi", "Stability index against the training. attribute: of the payments, or scores", ("attribute",)
        )
        self._unk = gauge("unk_share", "Share of payments whose combination the vocabulary lacks")
        self._surprise = gauge("surprise", "Mean surprise of a payment, nats, summed over attributes")
        self._alerts = gauge("alert_rate", "Share of payments whose score reaches the threshold")
        self._expected = gauge(
            "expected", "What scores promise without labels. figure: precision, recall, average_precision", ("figure",)
        )
        self._realised = gauge(
            "realised",
            "The same on matured labels, NaN without any. figure: precision, recall, average_precision, promised "
            "(frauds that scores promise over frauds)",
            ("figure",),
        )
        self._version = gauge("model_version", "Version that was looked at")
        self._looked = gauge("window_end_seconds", "Event time up to which the newest look went, epoch s")
        self.failures = Counter("panther_drift_failures", "Looks that failed", registry=self.registry)

    def show(self, drift: Drift) -> None:
        """Take a look's figures over."""
        self._drifted.clear()
        for finding in drift.findings:
            self._drifted.labels(finding.check).set(finding.drifted)
        for shift in drift.attributes:
            self._psi.labels(shift.name).set(shift.psi)
        self._psi.labels("scores").set(drift.score_psi)
        self._unk.set(drift.unk_share)
        self._surprise.set(drift.surprise)
        self._alerts.set(drift.alert_rate)
        for figure in ("precision", "recall", "average_precision"):
            self._expected.labels(figure).set(getattr(drift.expected, figure))
        for figure in ("precision", "recall", "average_precision", "promised"):
            self._realised.labels(figure).set(getattr(drift.realised, figure, float("nan")))
        self._version.set(drift.version)
        self._looked.set(drift.window[1] / 1000)


def markdown() -> list[str]:
    """The rows of the table in docs/refresh.md."""
    rows = []
    for metric in DriftGauges().registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        rows.append(f"| `{name}` | {metric.type} | {metric.documentation} |")
    return rows
