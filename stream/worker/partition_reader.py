"""Reads a topic in the partitions of which this worker has the transactions: what is about users that are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import TRANSACTIONS
from panther_core.kafka.reading import make_reader
from stream.faust_parts.internals import assigned

POLL_MS = 500


async def read_own_partitions(
    app: Any,
    kafka: KafkaSettings,
    topic: str,
    group: str,
    turn: Callable[[AIOKafkaConsumer], Awaitable[None]],
    **options: Any,
) -> None:
    """Call `turn(consumer)` again and again, while this worker has partitions. Runs for the life of the agent.

    `turn` polls, for at most POLL_MS, and commits what it has dealt with. `options`: of the consumer.
    """
    async with make_reader(kafka, group_id=group, **options) as consumer:
        read: list[TopicPartition] = []
        while True:
            mine = set() if app.rebalancing else assigned(app, TRANSACTIONS)
            wanted = [TopicPartition(topic, tp.partition) for tp in sorted(mine)]
            if wanted and wanted != read:
                consumer.assign(wanted)
            read = wanted
            if wanted:
                await turn(consumer)
            else:
                await asyncio.sleep(POLL_MS / 1000)
