"""Alerts for people: those on `fraud.alerts`, chosen, and a line for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import Alert
from panther_core.data.topics import ALERTS
from panther_core.kafka.answers import Skipped, Unreadable, read_alert
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read


@dataclass(frozen=True)
class Wanted:
    """Which alerts are shown. `since_ms`: payments from then on; `follow`: also those that are still to come."""

    user: str | None = None
    since_ms: int = 0
    min_score: float = 0.0
    follow: bool = False

    def has(self, alert: Alert) -> bool:
        """Whether this one is."""
        right = self.user is None or alert.user_id == self.user
        return right and alert.event_time >= self.since_ms and alert.score >= self.min_score


async def alerts(kafka: KafkaSettings, wanted: Wanted, skipped: Skipped) -> AsyncIterator[Alert]:
    """The alerts that are there, by time of their decision, each once; then those that come, if asked. What is none is
    counted in `skipped`. Raises BadInput where there is no topic."""
    seen: set[str] = set()

    def one(record: KafkaRecord) -> Alert | None:
        skipped.records += 1
        alert = read_alert(record.value)
        if isinstance(alert, Unreadable):
            skipped.add(record, alert.why)
            return None
        if alert.alert_id in seen or not wanted.has(alert):
            return None
        seen.add(alert.alert_id)
        return alert

    async with make_reader(kafka) as consumer:
        parts = await partitions_of(consumer, ALERTS)
        if not parts:
            raise BadInput(f"expected a topic {ALERTS}, found none: run `panther topics create`")
        offsets = await held(consumer, parts)
        there = [one(record) for part, own in offsets.items() async for record in read(consumer, part, own)]
        for alert in sorted((alert for alert in there if alert is not None), key=lambda a: (a.scored_at, a.alert_id)):
            yield alert
        if not wanted.follow:
            return
        consumer.assign(parts)
        for part, own in offsets.items():
            consumer.seek(part, own.stop)
        async for record in consumer:
            if (new := one(record)) is not None:
                yield new


async def alert_of(kafka: KafkaSettings, name: str) -> Alert:
    """The newest alert with this id, or of a payment with this id. Raises BadInput where there is none, or where
    payments of several users have the id."""
    there = [alert async for alert in alerts(kafka, Wanted(), Skipped(ALERTS))]
    named = [alert for alert in there if name in (alert.alert_id, alert.transaction_id)]
    if not named or len({alert.user_id for alert in named}) > 1:
        what = "alerts of several users" if named else "none that is still on the topic"
        raise BadInput(
            f"expected an alert with the id {name!r}, or of one payment with it, got {what}: look at `panther alerts`"
        )
    return named[-1]


def line_of(alert: Alert) -> str:
    """Time, amount, merchant, user, score and the two strongest reasons."""
    paid = datetime.fromtimestamp(alert.event_time / 1000, UTC)
    amount = "amount unknown" if alert.amount is None else f"{alert.amount:,.2f} {alert.currency or ''}".rstrip()
    what = f" ({alert.merchant_category})" if alert.merchant_category else ""
    by = f" by {alert.channel}" if alert.channel else ""
    reasons = "; ".join(reason.description for reason in alert.reasons[:2]) or "no reason was given"
    made = f", by {alert.degraded}" if alert.degraded else ""
    return (
        f"{paid:%Y-%m-%d %H:%M:%S} UTC  {amount} at {alert.merchant_id}{what}{by}, user {alert.user_id}, payment "
        f"{alert.transaction_id}: {alert.risk_level}, score {alert.score:.3f}{made}. {reasons}."
    )
