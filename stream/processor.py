"""Everything between intake and ack: a micro-batch becomes decisions, alerts, dead letters and states."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from rocksdict import WriteBatch

from panther_core.engine import Answer, Decided, Request, decide
from panther_core.errors import ScorerUnavailable
from panther_core.events import ModelProgress
from panther_core.scoring import EncodeRequest, ExplainRequest, Scorer, ScoreRequest
from panther_core.state import ALERT
from panther_core.topics import ALERTS, DEAD_LETTERS, PROGRESS, SCORES, TRANSACTIONS
from stream import metrics
from stream.faust_internals import Written, partition_store
from stream.intake import DeadLetter, Intake, read_batch
from stream.live_models import LiveModels, ServingModel
from stream.publish import alert_of, decision_of, to_json
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
        # an event may have waited for its user through a rebalance: it is its new owner's
        mine = [e.message for e in events if e.message.generation_id == generation]
        intake = read_batch(mine, model.schema, model.risk)
        durable = [await self._send_dead(dead) for dead in intake.dead]
        keys, rows, partitions = _users(intake)
        states = self._read(keys, partitions, model)
        await self._decide(intake, states, rows, model, durable)
        await asyncio.gather(*durable)
        written = Written(generation, events)
        if generation == self._app.consumer_generation_id:
            await self.write(keys, partitions, states, model, written)
        metrics.TRANSACTIONS.inc(len(intake.events))
        return written

    def _read(self, keys: list[bytes], partitions: list[int], model: ServingModel) -> Any:
        values: list[bytes | None] = [None] * len(keys)
        for partition in set(partitions):
            at = [i for i, p in enumerate(partitions) if p == partition]
            for i, value in zip(at, partition_store(self._table, partition).get([keys[i] for i in at]), strict=True):
                values[i] = value
        return model.codec.decode(values)

    async def _decide(self, intake: Intake, states: Any, rows: Any, model: ServingModel, durable: list[Any]) -> None:
        known = self._published.take([(record.partition, record.offset) for record in intake.records])
        for i, row in known.items():
            # its code too is what it was: merchants may have other risk levels by now, and this one stays in the state
            event, version = intake.events[i : i + 1], int(row["model_version"])
            event["code"]["risk"] = self._models.version(version).risk.level(event["merchant"])
        steps = decide(states, rows, intake.events, model.schema, model.live, now_ms, intake.received_ms, known)
        answer: Answer = None
        while True:
            try:
                need = steps.send(answer)
            except StopIteration:
                return
            answer = None
            if isinstance(need, Decided):
                durable.extend(await self._publish(need, intake))
            else:
                answer = await self._ask(need, model.live.version)

    async def _ask(self, need: Request, version: int) -> Answer:
        """One model call; None sends the engine one step down the degrade ladder."""
        step = _STEPS[type(need)]
        with metrics.MODEL_SECONDS.labels(step).time():
            try:
                if isinstance(need, ScoreRequest):
                    return await self._scorer.score(need, version)
                if isinstance(need, ExplainRequest):
                    return await self._scorer.explain(need.scored, version)
                return await self._scorer.encode(need, version)
            except ScorerUnavailable as error:
                metrics.MODEL_FAILURES.labels(step).inc()
                logger.warning("panther_%s is unavailable, degrading: %s", step, error)
                return None

    async def _publish(self, decided: Decided, intake: Intake) -> list[Any]:
        sends = []
        for i, row in zip(decided.event.tolist(), decided.decision, strict=True):
            record, transaction = intake.records[i], intake.transactions[i]
            decision = decision_of(row, transaction, int(intake.events["time_ms"][i]))
            # the source position lets a consumer, or an auditor, tie every decision to its transaction
            headers = headers_of(self._app.conf.id, record.partition, record.offset)
            place = {"key": record.key, "partition": record.partition, "headers": headers}
            if row["flags"] & ALERT:
                model = self._models.version(decision.model.version)
                alert = alert_of(row, decision, transaction, model.schema, model.tokenizer_version)
                sends.append(await self._producer.send(ALERTS, to_json(alert), **place))
                metrics.ALERTS.inc()
            sends.append(await self._producer.send(SCORES, to_json(decision), **place))
            metrics.DECISIONS.labels(decision.degraded or "live", "repeated" if decided.repeated else "new").inc()
        return sends

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
