"""Gives users a past: states computed from a known log, written to the changelog before the first worker starts.

The worker restores these states as it restores its own, and continues after the log. The model outputs in the states
come from the Triton server that will serve the users, so its cache is warm afterwards.
"""

from __future__ import annotations

import asyncio

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.schema import hash64
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS, changelog_of
from panther_core.decide.engine import encode_request, take_outputs
from panther_core.decide.scoring import Scorer
from panther_core.serving_model import ServingModel
from panther_core.state.history import prepare
from stream.faust_parts.producer import make_producer

#: what a log tells of a user; offsets and decisions belong to the stream the log came from, not to this one
_FIELDS = (
    *("n", "first_time_ms", "last_time_ms", "window_hash", "amount_mean", "amount_var", "counts", "sums"),
    *("merchants", "country", "device", "profile", "ring"),
)
_CHUNK = 256


async def seed_states(
    kafka: KafkaSettings, settings: PantherSettings, log: TransactionTable, model: ServingModel, scorer: Scorer
) -> int:
    """Write the state of every user of `log` to the application's changelog; returns how many.

    Only for an application that has not processed anything yet: states that a worker has stored since would be
    overwritten. Raises ScorerUnavailable.
    """
    history = prepare(log.events(model.schema, model.risk), model.schema, model.codec.length)
    states = model.codec.fresh(len(history.users))
    for name in _FIELDS:
        states[name] = history.states[name]
    for low in range(0, len(states), _CHUNK):
        part = states[low : low + _CHUNK]
        answer = await scorer.ask(encode_request(part, history.users[low : low + _CHUNK]), model.live.version)
        take_outputs(part, answer, model.live.version)
    row = {int(h): i for i, h in enumerate(history.users)}
    values = model.codec.encode(states)
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
