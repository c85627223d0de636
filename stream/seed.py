"""Gives users a past: states computed from a known log, written to the changelog before the first worker starts.

The worker restores them as it restores its own. Model outputs are left out: the first event of a user re-encodes.
"""

from __future__ import annotations

import asyncio

import numpy as np

from panther_core.history import prepare
from panther_core.schema import hash64
from panther_core.settings import KafkaSettings, PantherSettings
from panther_core.table import TransactionTable
from panther_core.topics import changelog_of
from stream.live_models import ServingModel
from stream.worker import make_producer

#: what a log tells of a user; offsets and decisions belong to the stream the log came from, not to this one
_FIELDS = (
    *("n", "first_time_ms", "last_time_ms", "window_hash", "amount_mean", "amount_var", "counts", "sums"),
    *("merchants", "country", "device", "profile", "ring"),
)


async def seed_states(
    kafka: KafkaSettings, settings: PantherSettings, log: TransactionTable, model: ServingModel
) -> int:
    """Write the state of every user of `log` to the application's changelog; returns how many.

    Only for an application that has not processed anything yet: it would overwrite what was learnt since.
    """
    events = log.events(model.schema)
    events["code"]["risk"] = model.risk.level(events["merchant"])
    history = prepare(events, model.schema, model.codec.length)
    states = model.codec.fresh(len(history.users))
    for name in _FIELDS:
        states[name] = history.states[name]
    row = {int(h): i for i, h in enumerate(history.users)}
    producer = make_producer(kafka)
    await producer.start()
    try:
        values = model.codec.encode(states)
        sends = []
        for user in np.array(log.user.words)[np.unique(log.user.index)].tolist():
            # the default partitioner puts a state where the user's transactions go
            sends.append(
                await producer.send(changelog_of(settings.app_id), values[row[hash64(user)]], key=user.encode())
            )
        await asyncio.gather(*sends)
        return len(sends)
    finally:
        await producer.stop()
