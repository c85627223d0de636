"""Gives users a past: states computed from a known log, written to the changelog before the first worker starts.

The worker restores these states as it restores its own, and continues after the log. The model outputs in the states
come from the Triton server that will serve the users, so its cache is warm afterwards.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.schema import hash64
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS, changelog_of, merchants_app
from panther_core.decide.engine import encode_request, take_outputs
from panther_core.decide.scoring import Scorer
from panther_core.kafka.reading import held, make_reader, members, partitions_of
from panther_core.kafka.updates import updates
from panther_core.serving_model import ServingModel, load_serving_model
from panther_core.state.history import prepare
from stream.faust_parts.producer import make_producer
from stream.scorer.replicas import ReplicaScorer
from stream.scorer.triton_control import TritonControl
from stream.tools.merchants_past import seed_merchants

#: what a log tells of a user; offsets and decisions belong to the stream the log came from, not to this one
_FIELDS = (
    *("n", "first_time_ms", "last_time_ms", "window_hash", "amount_mean", "amount_var", "counts", "sums"),
    *("usual", "odd_time_ms", "odd_ratio", "day", "days"),
    *("merchants", "country", "device", "profile", "ring"),
)
_CHUNK = 256


async def load_past(
    kafka: KafkaSettings,
    settings: PantherSettings,
    log: TransactionTable,
    after_topic: bool,
    label_delay_ms: int = 7 * DAY_MS,
) -> int:
    """Give the users of `log` their past in an application that has decided nothing yet, under the newest model.

    `after_topic`: the log holds what the transactions topic holds, so the application begins after it. Returns the
    number of users. Raises BadInput: no model was promoted, workers run, states exist, or the topic holds transactions
    of which nobody said whether the log has them; ScorerUnavailable.
    """
    for what, group in (("worker", settings.app_id), ("`panther merchants`", merchants_app(settings.app_id))):
        if await members(kafka, group) != 0:  # None: they are on their way
            raise BadInput(
                f"expected no {what} of {settings.app_id}, got a running one: stop it, or see PANTHER_APP_ID"
            )
    live = await updates(kafka)
    if not live:
        raise BadInput("expected a model in service, got none: `panther models promote` one first")
    kept = changelog_of(merchants_app(settings.app_id), "merchants")
    changelog = await _records(kafka, changelog_of(settings.app_id)) + await _records(kafka, kept)
    waiting = await _records(kafka, TRANSACTIONS)
    if changelog:
        raise BadInput(
            f"expected an application without states, got {changelog} records on the changelog of {settings.app_id}: a "
            "past is loaded before the first worker starts; begin a new application with another PANTHER_APP_ID"
        )
    if waiting and not after_topic:
        raise BadInput(
            f"expected an empty topic {TRANSACTIONS}, got {waiting} records: give --after-topic if the log holds them, "
            "and the application begins after them; if not, empty the topic or let the workers decide them first"
        )
    return await seed(kafka, settings, log, load_serving_model(Path(live[-1].artifact)), label_delay_ms)


async def seed(
    kafka: KafkaSettings,
    settings: PantherSettings,
    log: TransactionTable,
    model: ServingModel,
    label_delay_ms: int = 7 * DAY_MS,
) -> int:
    """Write the states of the users of `log`, and let the application begin after the records that Kafka holds.

    To be called before the first worker starts. Returns the number of users.
    """
    control = partial(TritonControl, headers=settings.triton_headers)
    scorer = ReplicaScorer(settings.triton_url, encode_deadline_s=60, control=control)
    try:
        users = await seed_states(kafka, settings, log, model, scorer, label_delay_ms)
    finally:
        await scorer.close()
    await start_after_log(kafka, settings)
    return users


async def _records(kafka: KafkaSettings, topic: str) -> int:
    """The number of offsets that a topic holds."""
    async with make_reader(kafka) as consumer:
        found = await held(consumer, await partitions_of(consumer, topic))
        return sum(len(offsets) for offsets in found.values())


async def seed_states(
    kafka: KafkaSettings,
    settings: PantherSettings,
    log: TransactionTable,
    model: ServingModel,
    scorer: Scorer,
    label_delay_ms: int,
) -> int:
    """Write the state of every user of `log` to the application's changelog; returns how many.

    Only for an application that has not processed anything yet: states that a worker has stored since would be
    overwritten. Raises ScorerUnavailable.
    """
    events = log.events(model.schema, model.risk)
    history = prepare(events, model.schema, model.codec.length)
    states = model.codec.fresh(len(history.users))
    for name in _FIELDS:
        states[name] = history.states[name]
    for low in range(0, len(states), _CHUNK):
        part = states[low : low + _CHUNK]
        answer = await scorer.ask(encode_request(part, history.users[low : low + _CHUNK]), model.live.version)
        take_outputs(part, answer, model.live.version)
    row = {int(h): i for i, h in enumerate(history.users)}
    values = model.codec.encode(states)
    await seed_merchants(kafka, settings, log, history, events, label_delay_ms, model.merchant_threshold)
    async with make_producer(kafka) as producer:
        sends = []
        for user in np.array(log.user.words)[np.unique(log.user.index)].tolist():
            # the default partitioner puts a state where the user's transactions go
            value = values[row[hash64(user)]]
            sends.append(await producer.send(changelog_of(settings.app_id), value, key=user.encode()))
        await asyncio.gather(*sends)
    return len(sends)


async def start_after_log(kafka: KafkaSettings, settings: PantherSettings) -> None:
    """Let the application's group begin at the end of the transactions topic, whose records the seeded states hold."""
    async with AIOKafkaConsumer(
        **kafka.client_options(), group_id=settings.app_id, enable_auto_commit=False
    ) as consumer:
        parts = [TopicPartition(TRANSACTIONS, p) for p in range(settings.partitions)]
        consumer.assign(parts)
        await consumer.commit(await consumer.end_offsets(parts))
