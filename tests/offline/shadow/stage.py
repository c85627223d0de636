"""A stream on a real broker, under topics of its own: payments, and what a live version decided of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from offline.replay import sellers
from offline.replay import topic as replay_topic
from offline.shadow import follow
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import HOUR_MS, now_ms
from panther_core.data.decision import Decision
from panther_core.data.events import Label
from panther_core.data.merchant_events import RISK_NAMES, RISK_UNKNOWN, MerchantRiskRecord
from panther_core.data.table import UNKNOWN_SELLER, TransactionTable
from panther_core.data.table_rows import as_arrived
from panther_core.data.topics import all_topics
from panther_core.decide.records import decisions_of, to_json
from panther_core.kafka.answers import NOWHERE, Position, headers_of
from panther_core.kafka.reading import KafkaRecord, read_topic
from stream.faust_parts.producer import make_producer
from tests.offline.parity.streamed import load
from trainer.rollout import shadow_report

_NAMES = {
    "TRANSACTIONS": "transactions",
    "SCORES": "fraud.scores",
    "SHADOW_SCORES": "fraud.scores.shadow",
    "LABELS": "fraud.labels",
    "MERCHANT_RISK": "merchant.risk",
}
_STEP_MS = 50  # between the records of two payments


@dataclass
class Stage:
    """`table`: payments in the order in which they are sent; `live`: the folder of the version that decides them."""

    bootstrap: str
    table: TransactionTable
    live: Path
    monkeypatch: pytest.MonkeyPatch
    prefix: str = field(default_factory=lambda: f"{uuid.uuid4().hex}.")
    began_ms: int = field(default_factory=lambda: now_ms() - HOUR_MS)
    places: dict[int, Position] = field(default_factory=dict)  # row -> of its first record

    def __post_init__(self) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=self.bootstrap)
        self.settings = PantherSettings(app_id="staged", partitions=4, models_dir=str(self.live.parent))
        for module in (follow, sellers, replay_topic, shadow_report):
            for name, topic in _NAMES.items():
                if hasattr(module, name):
                    self.monkeypatch.setattr(module, name, self.prefix + topic)
        for name, value in (("APP_ID", "staged"), ("PARTITIONS", "4"), ("TOPIC_PREFIX", self.prefix)):
            self.monkeypatch.setenv(f"PANTHER_{name}", value)  # of commands that are run as processes, and of a replay
        asyncio.run(self._make())

    async def _make(self) -> None:
        admin = AIOKafkaAdminClient(**self.kafka.client_options())
        await admin.start()
        wanted = [topic for topic in all_topics(self.settings) if topic.name in _NAMES.values()]
        topics = [NewTopic(self.prefix + topic.name, 4, 1, topic_configs=topic.config) for topic in wanted]
        await admin.create_topics(topics)
        await admin.close()
        self.risk: list[Position] = []
        rng = np.random.default_rng(0)
        async with make_producer(self.kafka) as producer:
            for i in range(40):
                features = RISK_UNKNOWN | dict(
                    zip(RISK_NAMES, rng.uniform(0, 3, len(RISK_NAMES)).tolist(), strict=True)
                )
                risk = MerchantRiskRecord(merchant_id=f"m{i}", as_of=self.began_ms, events=1, features=features)
                sent = await producer.send_and_wait(self.prefix + "merchant.risk", to_json(risk), f"m{i}".encode())
                self.risk.append((sent.partition, sent.offset))
        held = sellers.features_by_place(await read_topic(self.kafka, self.prefix + "merchant.risk"))  # as read back
        unknown = UNKNOWN_SELLER.tolist()
        self.seller = np.array([held.get(self.risk_of(row), unknown) for row in range(len(self.table))], np.float32)
        made = load(self.live).decide(replace(self.table, seller=self.seller))
        self.decided = np.flatnonzero(made.kept)
        words = self.table.user
        users = [words[row] or "" for row in self.decided.tolist()]
        ids, times = self.table.transaction_id[self.decided].tolist(), self.table.time_ms[self.decided].tolist()
        decisions = decisions_of(made.decision[self.decided], ids, users, times)
        self.decisions = dict(zip(self.decided.tolist(), decisions, strict=True))

    def risk_of(self, row: int) -> Position:
        """The record of merchant.risk that the row's live decision saw."""
        return self.risk[row % len(self.risk)] if row % 7 else NOWHERE

    def sent_ms(self, row: int) -> int:
        """Time of the row's record."""
        return self.began_ms + row * _STEP_MS

    async def pay(self, rows: Sequence[int], at_ms: int | None = None) -> None:
        """Send payments. `at_ms`: time of their records, in place of `sent_ms`."""
        paid = list(self.table.take(np.array(rows, np.intp)).rows())
        async with make_producer(self.kafka) as producer:
            futures = [
                await producer.send(
                    self.prefix + "transactions",
                    msgspec.json.encode(transaction),
                    transaction.user_id.encode(),
                    timestamp_ms=self.sent_ms(row) if at_ms is None else at_ms,
                )
                for row, transaction in zip(rows, paid, strict=True)
            ]
            for row, done in zip(rows, await asyncio.gather(*futures), strict=True):
                self.places.setdefault(row, (done.partition, done.offset))

    async def decide(self, rows: Sequence[int]) -> None:
        """Publish the live decisions of payments, as workers do, in this order."""
        async with make_producer(self.kafka) as producer:
            for row in rows:
                place = self.places[row]
                headers = headers_of(self.settings.app_id, *place, seller=self.risk_of(row))
                decision = self.decisions[row]
                value, key = to_json(decision), decision.user_id.encode()
                await producer.send(self.prefix + "fraud.scores", value, key, place[0], headers=headers)

    async def tell(self, rows: Sequence[int], delay_ms: int) -> None:
        """Send the labels of payments."""
        async with make_producer(self.kafka) as producer:
            for row in rows:
                known = Label(
                    transaction_id=str(self.table.transaction_id[row]),
                    user_id=self.table.user[row] or "",
                    label=int(self.table.label[row]),
                    label_time=int(self.table.time_ms[row]) + delay_ms,
                    source="analyst",
                )
                await producer.send(self.prefix + "fraud.labels", to_json(known), known.user_id.encode())

    def published(self) -> list[tuple[KafkaRecord, Decision]]:
        """What shadows have published."""
        records = asyncio.run(read_topic(self.kafka, self.prefix + "fraud.scores.shadow"))
        return [(record, msgspec.json.decode(record.value or b"", type=Decision)) for record in records]


def arrived(log: TransactionTable, rows: slice) -> TransactionTable:
    """The log as a stream: a few payments late; with its labels."""
    order = np.arange(len(log))[rows]
    order[30:60] = order[30:60][::-1]
    part = log.take(order)
    return replace(as_arrived(list(part.rows())), label=part.label)
