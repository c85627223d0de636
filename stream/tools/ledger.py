"""Reads the stream's output topics and checks them: one decision for each transaction, none contradicted.

For the demo's summary, benchmarks and crash tests. The ledger reads the topics from outside, as any consumer would.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import Alert, Decision
from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES
from panther_core.kafka.answers import Unreadable, header_of, read_alert, read_decision
from panther_core.kafka.reading import KafkaRecord, make_reader, partitions_of

SCORE_TOLERANCE = 1e-5  # two decisions of one transaction further apart than this contradict each other


@dataclass
class Ledger:
    """Decisions by transaction id, alerts by alert id, dead letters by code; appended_ms by transaction id."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    appended_ms: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    contradicted: list[tuple[Decision, Decision]] = field(default_factory=list)
    alerts: dict[str, Alert] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0  # records that are no decision or no alert
    versions: Counter[int] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)

    def add(self, record: KafkaRecord) -> None:
        """Enter one record of `fraud.scores`, `fraud.alerts` or `transactions.dlq`."""
        if record.topic == SCORES:
            decision = read_decision(record.value)
            if isinstance(decision, Unreadable):
                self.unreadable += 1
            else:
                self._add_decision(decision, record.timestamp)
        elif record.topic == ALERTS:
            alert = read_alert(record.value)
            if isinstance(alert, Unreadable):
                self.unreadable += 1
            else:
                self.alerts.setdefault(alert.alert_id, alert)
        else:
            self.dead[header_of(record, "code").decode(errors="replace") or "unknown"] += 1

    def _add_decision(self, decision: Decision, appended_ms: int) -> None:
        first = self.decisions.setdefault(decision.transaction_id, decision)
        if first is decision:
            self.appended_ms[decision.transaction_id] = appended_ms
            self.versions[decision.model.version] += 1
            if decision.degraded:
                self.degraded[decision.degraded] += 1
            return
        self.repeated += 1
        same = (first.alert, first.model) == (decision.alert, decision.model)
        if not same or abs(first.score - decision.score) > SCORE_TOLERANCE:
            self.contradicted.append((first, decision))

    def latency_ms(self, due_ms: dict[str, float] | None = None) -> dict[str, float]:
        """p50, p99, p999 of decision latency in ms, from when a transaction was due to its decision's append.

        Without `due_ms` (by transaction id): the worker's own figure, from the transaction's timestamp to the decision.
        """
        if due_ms is None:
            values = [float(d.latency_ms) for d in self.decisions.values()]
        else:
            values = [self.appended_ms[t] - due for t, due in due_ms.items() if t in self.appended_ms]
        if not values:
            return {"p50": 0.0, "p99": 0.0, "p999": 0.0}
        p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
        return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "p999": round(float(p999), 2)}


class LedgerReader:
    """Follows the output topics from where they end now (or their beginning) into a Ledger."""

    def __init__(self, kafka: KafkaSettings, from_beginning: bool = False) -> None:
        self.ledger = Ledger()
        self._from_beginning = from_beginning
        self._consumer = make_reader(kafka)

    async def __aenter__(self) -> LedgerReader:
        await self._consumer.start()
        topics = SCORES, ALERTS, DEAD_LETTERS
        parts = [part for topic in topics for part in await partitions_of(self._consumer, topic)]
        self._consumer.assign(parts)
        await (self._consumer.seek_to_beginning() if self._from_beginning else self._consumer.seek_to_end())
        for part in parts:
            await self._consumer.position(part)  # waits for the seek, which would else happen at the first poll
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def poll(self, timeout_s: float = 0.2) -> int:
        """Enter what arrives within `timeout_s`; returns how many records that were.

        Sleeps first and reads then: polling for every record as it comes would take a core from the system under test.
        """
        await asyncio.sleep(timeout_s)
        batches = await self._consumer.getmany(timeout_ms=0, max_records=20_000)
        count = 0
        for records in batches.values():
            for record in records:
                self.ledger.add(record)
            count += len(records)
        return count
