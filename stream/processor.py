"""Everything between intake and ack: a micro-batch becomes decisions, alerts, dead letters and states."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from rocksdict import WriteBatch

from panther_core.engine import Answer, Decided, Request, decide
from panther_core.errors import ScorerUnavailable
from panther_core.events import Decision, ModelProgress
from panther_core.scoring import EncodeRequest, ExplainRequest, Scorer, ScoreRequest
from panther_core.topics import ALERTS, DEAD_LETTERS, PROGRESS, SCORES, TRANSACTIONS
from stream import metrics
from stream.faust_internals import Written, partition_store
from stream.intake import DeadLetter, Intake, read_batch
from stream.live_models import LiveModels, ServingModel
from stream.publish import alert_of, decisions_of, to_json
from stream.published import Published, headers_of

logger = logging.getLogger(__name__)

_STEPS: dict[type, str] = {ScoreRequest: "score", ExplainRequest: "explain", EncodeRequest: "encode"}


def now_ms() -> int:
    """Wall clock, epoch ms."""
    return time.time_ns() // 1_000_000


class Processor:
    """Decides micro-batches: everything between intake and ack."""

    def __init__(
        self,
        app: Any,
        table: Any,
        models: LiveModels,
        scorer: Scorer,
        producer: AIOKafkaProducer,
        published: Published,
    ) -> None:
        self._app, self._table, self._published = app, table, published
        self._models, self._scorer, self._producer = models, scorer, producer

    async def prepare(self, events: list[Any]) -> None:
        """Look what of these events, just taken in, was published before a crash; every event, in order of intake."""
        first: dict[int, int] = {}
        for event in events:
            partition, offset = event.message.partition, event.message.offset
            first[partition] = min(offset, first.get(partition, offset))
        await self._published.look(first, self._app.consumer_generation_id)

    async def process(self, events: list[Any]) -> Written:
        """Decide one micro-batch and store the states; where its partitions were lost meanwhile, nothing is stored.

        Batches without a user in common may be under way at the same time.
        """
        generation = self._app.consumer_generation_id
        model = await self._models.current()
        metrics.BATCH_EVENTS.observe(len(events))
        # an event may have waited for its user through a rebalance: it is its new owner's
        mine = [e.message for e in events if e.message.generation_id == generation]
        with metrics.timed("decode"):
            intake = read_batch(mine, model.schema, model.risk)
        out = _Outgoing([await self._send_dead(dead) for dead in intake.dead])
        keys, rows, partitions = _users(intake)
        with metrics.timed("state_read"):
            states = self._read(keys, partitions, model)
        await self._decide(intake, states, rows, model, out)
        with metrics.timed("publish"):
            await out.durable()
        written = Written(generation, events)
        if generation == self._app.consumer_generation_id:
            with metrics.timed("state_write"):
                await self.write(keys, partitions, states, model, written)
        metrics.TRANSACTIONS.inc(len(intake.events))
        metrics.REDELIVERED.inc(len(intake.events) - len(out.decisions))
        return written

    def _read(self, keys: list[bytes], partitions: list[int], model: ServingModel) -> Any:
        values: list[bytes | None] = [None] * len(keys)
        for partition in set(partitions):
            at = [i for i, p in enumerate(partitions) if p == partition]
            for i, value in zip(at, partition_store(self._table, partition).get([keys[i] for i in at]), strict=True):
                values[i] = value
        return model.codec.decode(values)

    async def _decide(self, intake: Intake, states: Any, rows: Any, model: ServingModel, out: _Outgoing) -> None:
        known = self._published.take([(record.partition, record.offset) for record in intake.records])
        steps = decide(states, rows, intake.events, model.schema, model.live, now_ms, intake.received_ms, known)
        answer: Answer = None
        while True:
            try:
                need = steps.send(answer)
            except StopIteration:
                return
            answer = None
            if isinstance(need, Decided):
                await self._publish(need, intake, out)
            else:
                answer = await self._ask(need, model.live.version)

    async def _ask(self, need: Request, version: int) -> Answer:
        """One model call; None sends the engine one step down the degrade ladder."""
        step = _STEPS[type(need)]
        with metrics.timed(step):
            try:
                if isinstance(need, ScoreRequest):
                    return await self._scorer.score(need, version)
                if isinstance(need, ExplainRequest):
                    return await self._scorer.explain(need.scored, version)
                metrics.ENCODED.inc(len(need.user))
                return await self._scorer.encode(need, version)
            except ScorerUnavailable as error:
                metrics.MODEL_FAILURES.labels(step).inc()
                logger.warning("panther_%s is unavailable, degrading: %s", step, error)
                return None

    async def _publish(self, decided: Decided, intake: Intake, out: _Outgoing) -> None:
        at = decided.event.tolist()
        transactions = [intake.transactions[i] for i in at]
        decisions = decisions_of(decided.decision, transactions, intake.events["time_ms"][decided.event].tolist())
        for k, (i, decision) in enumerate(zip(at, decisions, strict=True)):
            record = intake.records[i]
            # the source position lets a consumer, or an auditor, tie every decision to its transaction
            headers = headers_of(self._app.conf.id, record.partition, record.offset)
            place = {"key": record.key, "partition": record.partition, "headers": headers}
            if decision.alert:
                model = self._models.version(decision.model.version)
                alert = alert_of(decided.decision[k], decision, transactions[k], model.schema, model.tokenizer_version)
                out.sends.append(await self._producer.send(ALERTS, to_json(alert), **place))
            sent = await self._producer.send(SCORES, to_json(decision), **place)
            out.sends.append(sent)
            if not decided.repeated:
                out.decisions.append(sent)
        if not decided.repeated:
            out.received_ms += intake.received_ms[decided.event].tolist()
        _count(decisions, decided.repeated)

    async def _send_dead(self, dead: DeadLetter) -> Any:
        metrics.DEAD_LETTERS.labels(dead.code).inc()
        record = dead.record
        headers = [
            ("code", dead.code.encode()),
            ("reason", dead.message.encode()),
            ("source", f"{TRANSACTIONS}:{record.partition}:{record.offset}".encode()),
        ]
        return await self._producer.send(
            DEAD_LETTERS, record.value, key=record.key, partition=record.partition, headers=headers
        )

    async def report(self, progress: ModelProgress) -> None:
        """Say that a partition's users have moved: after their states, through the same producer."""
        key = f"{progress.app_id}:{progress.partition}".encode()
        await self._producer.send(PROGRESS, to_json(progress), key=key)

    async def write(
        self, keys: list[bytes], partitions: list[int], states: Any, model: ServingModel, out: Written
    ) -> None:
        changelog = self._table.changelog_topic_name
        batches: dict[int, WriteBatch] = {}
        for key, partition, value in zip(keys, partitions, model.codec.encode(states), strict=True):
            batches.setdefault(partition, WriteBatch(raw_mode=True)).put(key, value)
            sent = await self._producer.send(changelog, value, key=key, partition=partition)
            out.sends.append(sent)
            out.last_send[partition] = sent
        for partition, batch in batches.items():
            partition_store(self._table, partition).write(batch)


def _count(decisions: list[Decision], repeated: bool) -> None:
    for made, count in Counter(decision.degraded or "live" for decision in decisions).items():
        metrics.DECISIONS.labels(made, "repeated" if repeated else "new").inc(count)
    metrics.ALERTS.inc(sum(decision.alert for decision in decisions))
    if not repeated:
        metrics.LATE.inc(sum(decision.late for decision in decisions))


@dataclass
class _Outgoing:
    """Records of one micro-batch on their way to Kafka; new decisions beside when their transactions came, epoch ms."""

    sends: list[asyncio.Future[Any]]
    decisions: list[asyncio.Future[Any]] = field(default_factory=list)
    received_ms: list[int] = field(default_factory=list)

    async def durable(self) -> None:
        """Until Kafka has all of them; raises what a send raised."""
        await asyncio.gather(*self.sends)
        # the topic is stamped by the broker on append (panther_core.topics): what a consumer sees, at no cost here
        published_ms = np.array([sent.result().timestamp for sent in self.decisions], np.int64)
        metrics.DECISION_SECONDS.observe_many((published_ms - np.array(self.received_ms, np.int64)) / 1000)


def _users(intake: Intake) -> tuple[list[bytes], Any, list[int]]:
    """Distinct user keys of a batch, the row of each event's user, and the partition of each key."""
    index: dict[bytes, int] = {}
    rows = np.empty(len(intake.records), np.intp)
    partitions: list[int] = []
    for i, record in enumerate(intake.records):
        assert record.key is not None  # intake has checked it against the user id
        row = index.setdefault(record.key, len(index))
        if row == len(partitions):
            partitions.append(record.partition)
        rows[i] = row
    return list(index), rows, partitions
