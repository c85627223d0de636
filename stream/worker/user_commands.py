"""Carries out what operators ask about one user (`panther user reset|forget`), in the partitions of this worker.

The user is claimed from the pipeline, so that no batch reads or writes the state meanwhile. A command is committed once
the deletion is durable in the changelog. A worker that dies before the commit leaves the command to the next owner of
the partition, who carries it out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from panther_core.base.settings import KafkaSettings
from panther_core.data.commands import decode_command
from panther_core.data.schema import hash64
from panther_core.data.topics import USER_COMMANDS
from panther_core.kafka.reading import KafkaRecord
from stream.ops import metrics
from stream.worker.acker import Acker
from stream.worker.paid import PREFIX
from stream.worker.partition_reader import POLL_MS, read_own_partitions
from stream.worker.pipeline import Pipeline
from stream.worker.state_store import StateStore, StoredBatch

logger = logging.getLogger(__name__)

# A user with many events is free for one turn of the event loop between two batches: every turn is looked at for a
# while, then the loop is left alone for a moment.
_TURNS, _PAUSE_S = 1000, 0.02


class UserCommands:
    """One worker's reader of `users.commands`."""

    def __init__(
        self,
        app: Any,
        kafka: KafkaSettings,
        store: StateStore,
        pipeline: Pipeline,
        acker: Acker,
        forget: Callable[[int, str], None] = lambda partition, user: None,
    ) -> None:
        """`forget(partition, user)` deletes what is held of a user beside the state."""
        self._app, self._kafka, self._store = app, kafka, store
        self._pipeline, self._acker, self._forget = pipeline, acker, forget

    async def run(self) -> None:
        """Run for the life of the agent."""
        group = f"{self._app.conf.id}-users"
        await read_own_partitions(self._app, self._kafka, USER_COMMANDS, group, self._turn)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        """Carry out the commands that have come."""
        for part, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            for record in records:
                if not await self._obey(record):
                    consumer.seek(part, record.offset)  # the partition moves: the command is its new owner's
                    break
                try:
                    await consumer.commit({part: record.offset + 1})
                except KafkaError as error:
                    logger.warning("a command of %s will be carried out again: %r", USER_COMMANDS, error)

    async def _obey(self, record: KafkaRecord) -> bool:
        """Carry out one command; False where the partition is another worker's by now."""
        try:
            wanted = decode_command(record.value)
            if record.key != wanted.user_id.encode():
                raise msgspec.ValidationError("expected the record key to be `$.user_id`, got another")
        except msgspec.DecodeError as error:
            logger.warning("%s:%d:%d is no command: %s", record.topic, record.partition, record.offset, error)
            metrics.USER_COMMANDS.labels("unreadable").inc()
            return True
        batch = StoredBatch(self._app.consumer_generation_id, [])
        key = wanted.user_id.encode()
        if not await self._claim(key, batch.generation):
            return False
        try:
            kept = PREFIX + hash64(wanted.user_id).to_bytes(8, "little") if wanted.command == "forget" else b""
            await self._store.forget(key, record.partition, batch, kept)
            if wanted.command == "forget":
                self._forget(record.partition, wanted.user_id)
        finally:
            self._pipeline.release({key})
        await self._acker.put(batch)
        metrics.USER_COMMANDS.labels(wanted.command).inc()
        logger.info("%s of a user, as %s:%d:%d asks", wanted.command, record.topic, record.partition, record.offset)
        return True

    async def _claim(self, key: bytes, generation: int) -> bool:
        """Wait until no batch holds the user; False where the partitions move meanwhile."""
        while True:
            for _ in range(_TURNS):
                if self._app.rebalancing or self._app.consumer_generation_id != generation:
                    return False
                if self._pipeline.claim([key]):
                    return True
                await asyncio.sleep(0)
            await asyncio.sleep(_PAUSE_S)
