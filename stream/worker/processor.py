"""Everything between intake and ack: a micro-batch becomes decisions, alerts, dead letters and states."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rocksdict import WriteBatch

from panther_core.base.errors import ScorerUnavailable
from panther_core.data.decision import Decision
from panther_core.data.events import ModelProgress
from panther_core.data.topics import ALERTS, DEAD_LETTERS, PROGRESS, SCORES, TRANSACTIONS
from panther_core.decide.engine import Answer, Decided, Prefetch, decide
from panther_core.decide.records import alert_of, decisions_of, to_json
from panther_core.decide.scoring import EncodeRequest, Request, Scorer
from panther_core.kafka.answers import headers_of
from panther_core.serving_model import ServingModel
from stream.faust_parts.internals import partition_store
from stream.faust_parts.producer import Outgoing, Producer
from stream.faust_parts.recovery import noticing_damage
from stream.ops import metrics
from stream.worker.acker import Written
from stream.worker.intake import DeadLetter, Intake, read_batch
from stream.worker.letters import letter_of
from stream.worker.live_models import LiveModels
from stream.worker.published import Published

logger = logging.getLogger(__name__)


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
        producer: Producer,
        changelog: Producer,
        published: Published,
    ) -> None:
        """`changelog` sends states, `producer` all else: a producer has one request at a time under way to a broker,
        and decisions would wait for the states of the batch before them, which are ten times as large."""
        self._app, self._table, self._published = app, table, published
        self._app_id: str = app.conf.id  # every look at a setting of Faust's is a walk through its registry
        self._models, self._scorer, self._producer, self._changelog = models, scorer, producer, changelog

    async def prepare(self, events: list[Any]) -> None:
        """Look what of these events, just taken in, was published before a crash; every event, in order of intake."""
        first: dict[int, int] = {}
        for event in events:
            partition, offset = event.message.partition, event.message.offset
            first[partition] = min(offset, first.get(partition, offset))
        await self._published.read_back(first, self._app.consumer_generation_id)

    async def process(self, events: list[Any], decided: Callable[[], None]) -> Written:
        """Decide one micro-batch and store the states; where its partitions were lost meanwhile, nothing is stored.

        `decided` is called once no event waits for its decision any more, but for alerts whose reasons are looked for.
        Batches without a user in common may be under way at the same time.
        """
        generation = self._app.consumer_generation_id
        model = await self._models.current()
        # an event may have waited for its user through a rebalance: it is its new owner's
        mine = [e.message for e in events if e.message.generation_id == generation]
        with metrics.timed("decode"):
            intake = read_batch(mine, model.schema, model.risk)
        durable = [await self._send_dead(dead) for dead in intake.dead]
        keys, rows, partitions = _users(intake)
        with metrics.timed("state_read"):
            states = self._read(keys, partitions, model)
        await self._decide(intake, states, rows, model, generation, durable, decided)
        with metrics.timed("publish"):
            await asyncio.gather(*durable)
        written = Written(generation, events)
        if generation == self._app.consumer_generation_id:
            with metrics.timed("state_write"):
                await self.write(keys, partitions, states, model, written)
        metrics.TRANSACTIONS.inc(len(intake.events))
        metrics.BATCH_EVENTS.observe(len(events))
        return written

    def _read(self, keys: list[bytes], partitions: list[int], model: ServingModel) -> Any:
        values: list[bytes | None] = [None] * len(keys)
        for partition in set(partitions):
            at = [i for i, p in enumerate(partitions) if p == partition]
            with noticing_damage(self._table, partition):
                found = partition_store(self._table, partition).get([keys[i] for i in at])
            for i, value in zip(at, found, strict=True):
                values[i] = value
        return model.codec.decode(values)

    async def _decide(
        self,
        intake: Intake,
        states: Any,
        rows: Any,
        model: ServingModel,
        generation: int,
        durable: list[Any],
        decided: Callable[[], None],
    ) -> None:
        """Publish what the engine decides, until the partitions may be another worker's: that one decides then, and
        its answer need not be this one's. What was published by then it reads back (stream.worker.published)."""
        if generation != self._app.consumer_generation_id:
            return
        known = self._published.take([(record.partition, record.offset) for record in intake.records])
        for i, row in known.items():
            # its code too is what it was: merchants may have other risk levels by now, and this one stays in the state
            event, version = intake.events[i : i + 1], int(row["model_version"])
            event["code"]["risk"] = self._models.version(version).risk.level(event["merchant"])
        steps = decide(states, rows, intake.events, model.schema, model.live, now_ms, intake.received_ms, known)
        answer: Answer = None
        begun: asyncio.Task[Answer] | None = None  # one at a time: the engine asks for it next but one
        redelivered = len(intake.events)
        try:
            while True:
                try:
                    need = steps.send(answer)
                except StopIteration:
                    metrics.REDELIVERED.inc(redelivered)
                    return
                answer = None
                if isinstance(need, Decided):
                    if generation != self._app.consumer_generation_id:
                        return
                    redelivered -= 0 if need.repeated else len(need.event)
                    durable.extend(await self._publish(need, intake))
                    if not need.repeated:
                        decided()
                elif isinstance(need, Prefetch):
                    begun = asyncio.create_task(self._ask(need.request, model.live.version))
                elif begun is not None and isinstance(need, EncodeRequest):
                    answer, begun = await begun, None
                else:
                    answer = await self._ask(need, model.live.version)
        finally:
            if begun is not None:  # something was raised before it was waited for
                begun.cancel()

    async def _ask(self, request: Request[Any], version: int) -> Any:
        """One model call; None sends the engine one step down the degrade ladder."""
        with metrics.timed(request.step):
            if isinstance(request, EncodeRequest):
                metrics.ENCODED.inc(len(request.user))
            try:
                return await self._scorer.ask(request, version)
            except ScorerUnavailable as error:
                metrics.MODEL_FAILURES.labels(request.step).inc()
                logger.warning("%s is unavailable, degrading: %s", request.model, error)
                return None

    async def _publish(self, decided: Decided, intake: Intake) -> list[Any]:
        sends, by_partition = [], dict[int, list[Outgoing]]()
        at = decided.event.tolist()
        transactions = [intake.transactions[i] for i in at]
        ids, users = [t.transaction_id for t in transactions], [t.user_id for t in transactions]
        decisions = decisions_of(decided.decision, ids, users, intake.events["time_ms"][decided.event].tolist())
        for k, decision in enumerate(decisions):
            record = intake.records[at[k]]
            # the source position lets a consumer, or an auditor, tie every decision to its transaction
            headers = headers_of(self._app_id, record.partition, record.offset)
            if decision.alert:
                model = self._models.version(decision.model.version)
                row, tokenizer = decided.decision[k], model.tokenizer_version
                alert = to_json(alert_of(row, decision, transactions[k], model.schema, tokenizer))
                sends.append(await self._producer.send_all(ALERTS, record.partition, [(record.key, alert, headers)]))
            by_partition.setdefault(record.partition, []).append((record.key, to_json(decision), headers))
        for partition, records in by_partition.items():
            sends.append(await self._producer.send_all(SCORES, partition, records))
        _count(decisions, decided.repeated)
        if not decided.repeated:
            received_ms = intake.received_ms[decided.event]
            asyncio.gather(*sends).add_done_callback(partial(_note_latency, received_ms))
        return sends

    async def _send_dead(self, dead: DeadLetter) -> Any:
        metrics.DEAD_LETTERS.labels(dead.code).inc()
        record = dead.record
        source = f"{TRANSACTIONS}:{record.partition}:{record.offset}"
        key, value, headers = letter_of(record.key, record.value, dead.code, dead.message, source)
        return await self._producer.send(DEAD_LETTERS, value, key=key, partition=record.partition, headers=headers)

    async def report(self, progress: ModelProgress) -> None:
        """Say that a partition's users have moved: after their states, through the same producer."""
        key = f"{progress.app_id}:{progress.partition}".encode()
        await self._changelog.send(PROGRESS, to_json(progress), key=key)

    async def write(
        self, keys: list[bytes], partitions: list[int], states: Any, model: ServingModel, out: Written
    ) -> None:
        by_partition: dict[int, list[tuple[bytes, bytes]]] = {}
        for key, partition, value in zip(keys, partitions, model.codec.encode(states), strict=True):
            by_partition.setdefault(partition, []).append((key, value))
        for partition, values in by_partition.items():
            records: list[Outgoing] = [(key, value, []) for key, value in values]
            out.sends[partition] = await self._changelog.send_all(self._table.changelog_topic_name, partition, records)
            batch = WriteBatch(raw_mode=True)
            for key, value in values:
                batch.put(key, value)
            with noticing_damage(self._table, partition):
                partition_store(self._table, partition).write(batch)


def _count(decisions: list[Decision], repeated: bool) -> None:
    for made, count in Counter(decision.degraded or "live" for decision in decisions).items():
        metrics.DECISIONS.labels(made, "repeated" if repeated else "new").inc(count)
    metrics.ALERTS.inc(sum(decision.alert for decision in decisions))
    if not repeated:
        metrics.LATE.inc(sum(decision.late for decision in decisions))


def _note_latency(received_ms: NDArray[np.int64], published: asyncio.Future[Any]) -> None:
    """End to end, once the decisions of transactions received at these times (epoch ms) are durable."""
    if not published.cancelled() and published.exception() is None:
        metrics.DECISION_SECONDS.observe_many((now_ms() - received_ms) / 1000)


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
