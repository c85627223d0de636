"""Steps 1 to 4 of the commit protocol (stream.worker.pipeline): a micro-batch becomes decisions, alerts, dead letters
and stored states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import ScorerUnavailable
from panther_core.base.times import now_ms
from panther_core.data.decision import ALERT, LATE, Degraded
from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES, TRANSACTIONS
from panther_core.decide.engine import Answer, Decided, Prefetch, decide
from panther_core.decide.records import alert_of, decisions_of, to_json
from panther_core.decide.scoring import EncodeRequest, Request, Scorer
from panther_core.kafka.answers import headers_of
from panther_core.serving_model import ServingModel
from stream.faust_parts.producer import Outgoing, Producer
from stream.ops import metrics
from stream.ops.flood import DeadLetterNotice
from stream.worker.batch_decisions import BatchDecisions
from stream.worker.decided import DecidedStore, keys_of
from stream.worker.intake import DeadLetter, Intake, Placement, read_batch
from stream.worker.letters import letter_of
from stream.worker.live_models import LiveModels
from stream.worker.merchant_log import MerchantLog, payment_events
from stream.worker.risk_book import RiskBook
from stream.worker.source_log import SourceLog
from stream.worker.state_store import StateStore, StoredBatch
from stream.worker.warm_up import WarmUp

logger = logging.getLogger(__name__)

_OVERLOAD = (
    "expected a user to send less than the worker can decide of one user, got more for so long that 20,000 of the "
    "user's records wait: find the sender, then `panther dlq replay`"
)


class Processor:
    """Decides micro-batches."""

    def __init__(
        self,
        app: Any,
        models: LiveModels,
        warm_up: WarmUp,
        scorer: Scorer,
        producer: Producer,
        store: StateStore,
        decided: DecidedStore,
        source: SourceLog,
        placement: Placement,
        notice: DeadLetterNotice,
        merchants: MerchantLog,
        book: RiskBook,
    ) -> None:
        """`producer` sends everything but states.

        A producer has one request at a time under way to a broker. States are several times as large as decisions, so
        decisions would wait for the states of the batch before them: the store has a producer of its own.
        """
        self._app, self._decided, self._source, self._placement = app, decided, source, placement
        self._notice, self._merchants, self._book, self._warm_up = notice, merchants, book, warm_up
        self._app_id: str = app.conf.id  # every look at a setting of Faust's is a walk through its registry
        self._models, self._scorer, self._producer, self._store = models, scorer, producer, store

    async def prepare(self) -> None:
        """Return once events that were just taken in can be decided: their partitions are open, merchants are known."""
        await self._source.opened()
        await self._book.ready()

    async def process(self, events: list[Any], decided: Callable[[], None], refused: Sequence[Any] = ()) -> StoredBatch:
        """Decide one micro-batch and store the states; if its partitions were lost meanwhile, nothing is stored.

        `refused`: events of overloading users, which become dead letters (stream.worker.pipeline). `decided` is called
        once all decisions are published but those of alerts, which wait for their reasons. Batches without a user in
        common may be under way at the same time.
        """
        generation = self._app.consumer_generation_id
        model = await self._models.current()
        # Step 1: decode. An event that waited for its user through a rebalance is left to the partition's new owner.
        mine = [e.message for e in events if e.message.generation_id == generation]
        with metrics.timed("decode"):
            intake = read_batch(mine, model.schema, model.risk, self._placement)
            intake.events["offset"] = self._source.offsets(intake.records)  # of the log's present epoch
            seen = self._book.seen(intake.events["merchant"], intake.events["time_ms"])
            intake.events["seller"], sellers, sellers_as_of = seen
        overload = [
            DeadLetter(e.message, "user_overload", _OVERLOAD) for e in refused if e.message.generation_id == generation
        ]
        durable = await self._send_dead(intake.dead + overload)
        # Step 2: decide and publish.
        keys, rows, partitions = _users(intake)
        with metrics.timed("state_read"):
            states = self._store.read(keys, partitions, model.codec)
        out = BatchDecisions(intake, keys_of(intake.events), sellers, sellers_as_of)
        await self._decide(out, states, rows, model, generation, durable, decided)
        # Step 3: wait until decisions, alerts and dead letters are durable.
        with metrics.timed("publish"):
            await asyncio.gather(*durable)
        # Step 4: store states and send them to the changelog. Step 5, the ack, is stream.worker.acker's.
        batch = StoredBatch(generation, [*events, *refused])
        if generation == self._app.consumer_generation_id:
            with metrics.timed("state_write"):
                out.hold(self._decided)
                marks = self._source.marks(mine)
                await self._store.write(keys, partitions, states, model.codec, batch, marks, out.paid(self._store))
            users = np.zeros(len(keys), np.uint64)
            users[rows] = intake.events["user"]
            self._warm_up.note(users, states)
        metrics.TRANSACTIONS.inc(len(intake.events))
        metrics.BATCH_EVENTS.observe(len(events))
        return batch

    async def _decide(
        self,
        out: BatchDecisions,
        states: Any,
        rows: Any,
        model: ServingModel,
        generation: int,
        durable: list[Any],
        decided: Callable[[], None],
    ) -> None:
        """Publish what the engine decides, and stop as soon as the partitions may belong to another worker.

        That worker decides the rest, perhaps otherwise, and reads back what was published here
        (stream.worker.decided).
        """
        if generation != self._app.consumer_generation_id:
            return
        intake = out.intake
        partitions = [record.partition for record in intake.records]
        out.held = self._decided.find(intake.events, intake.received_ms, partitions, out.keys)
        if out.held:
            await self._models.preload(int(held.row["model_version"]) for held, _ in out.held.values())
        for i, (held, _) in out.held.items():
            # the event keeps the risk level it was decided with, since the level stays in the state: another model
            # version may give its merchant another level by now
            if held.same:
                event, version = intake.events[i : i + 1], int(held.row["model_version"])
                event["code"]["risk"] = self._models.version(version).risk.level(event["merchant"])
        known = {i: held for i, (held, _) in out.held.items()}
        received_ms = intake.received_ms
        steps = decide(states, rows, intake.events, model.schema, model.live, now_ms, received_ms, known, together=True)
        answer: Answer = None
        prefetched: asyncio.Task[Answer] | None = None  # one at a time: the engine asks for it next but one
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
                    durable.extend(await self._publish(need, out))
                    if not need.repeated:
                        decided()
                elif isinstance(need, Prefetch):
                    prefetched = asyncio.create_task(self._ask(need.request, model.live.version))
                elif prefetched is not None and isinstance(need, EncodeRequest):
                    answer, prefetched = await prefetched, None
                else:
                    answer = await self._ask(need, model.live.version)
        finally:
            if prefetched is not None:  # an exception came before the engine asked for it
                prefetched.cancel()

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

    async def _publish(self, decided: Decided, out: BatchDecisions) -> list[Any]:
        intake = out.intake
        sends, by_partition = [], dict[int, list[Outgoing]]()
        at = decided.event.tolist()
        transactions = [intake.transactions[i] for i in at]
        ids, users = [t.transaction_id for t in transactions], [t.user_id for t in transactions]
        contents = intake.events["content"][decided.event].tolist()
        decisions = decisions_of(decided.decision, ids, users, intake.events["time_ms"][decided.event].tolist())
        records = [intake.records[i] for i in at]
        epochs = {partition: self._source.epoch(partition) for partition in {record.partition for record in records}}
        for k, (decision, record) in enumerate(zip(decisions, records, strict=True)):
            # the source position lets a consumer, or an auditor, tie every decision to its transaction
            partition, alert = record.partition, b""
            headers = headers_of(
                self._app_id, partition, record.offset, contents[k], epochs[partition], out.sellers[at[k]]
            )
            if decision.alert:
                alert = out.alert_before(at[k])
                if not alert:
                    model = self._models.version(decision.model.version)
                    alert = to_json(
                        alert_of(
                            decided.decision[k],
                            decision,
                            transactions[k],
                            model.schema,
                            model.tokenizer_version,
                            contents[k],
                            intake.events["seller"][at[k]],
                            out.sellers_as_of[at[k]],
                            None if decided.repeated else float(decided.ratio[k]),
                            decided.usual[k] if decided.usual else None,
                        )
                    )
                sends.append(await self._producer.send_all(ALERTS, partition, [(record.key, alert, headers)]))
            out.alerts.append(alert)
            by_partition.setdefault(partition, []).append((record.key, to_json(decision), headers))
        for partition, outgoing in by_partition.items():
            sends.append(await self._producer.send_all(SCORES, partition, outgoing))
        if decided.repeated:
            del out.alerts[-len(at) :]
        else:
            out.at += at
            out.rows.append(decided.decision)
            out.ratios.append(decided.ratio)
        _count(decided.decision, decided.repeated)
        if not decided.repeated:
            received_ms = intake.received_ms[decided.event]
            asyncio.gather(*sends).add_done_callback(partial(_note_latency, received_ms))
            sends += await self._merchants.send(
                payment_events(transactions, intake.events[decided.event], records, decided.ratio, decided.deviation)
            )
        return sends

    async def _send_dead(self, dead: list[DeadLetter]) -> list[Any]:
        by_partition: dict[int, list[Outgoing]] = {}
        for letter in dead:
            metrics.DEAD_LETTERS.labels(letter.code).inc()
            record = letter.record
            self._notice.note(letter.code, record.partition, record.offset, letter.message)
            source = f"{TRANSACTIONS}:{record.partition}:{record.offset}"
            outgoing = letter_of(record.key, record.value, letter.code, letter.message, source)
            by_partition.setdefault(record.partition, []).append(outgoing)
        return [await self._producer.send_all(DEAD_LETTERS, *letters) for letters in by_partition.items()]


def _count(decisions: NDArray[np.void], repeated: bool) -> None:
    """Count DECISION rows."""
    for made, count in enumerate(np.bincount(decisions["degraded"], minlength=len(Degraded)).tolist()):
        if count:
            metrics.DECISIONS.labels(Degraded(made).word or "live", "repeated" if repeated else "new").inc(count)
    metrics.ALERTS.inc(int(np.count_nonzero(decisions["flags"] & ALERT)))
    if not repeated:
        metrics.LATE.inc(int(np.count_nonzero(decisions["flags"] & LATE)))


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
