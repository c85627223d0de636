"""From which risk on a merchant is an alert: the threshold of the model version that is live."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate
from panther_core.data.topics import MODELS
from panther_core.kafka.answers import Unreadable, read_update
from panther_core.kafka.reading import KafkaRecord, held, make_reader, read


class LiveThreshold:
    """Follows `models.updates` without a consumer group. `now`: log odds, None where no merchant is an alert."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._read = asyncio.Event()
        self._live: ModelUpdate | None = None
        self.now: float | None = None

    async def ready(self) -> None:
        """Return once the topic was read to its end."""
        await self._read.wait()

    async def run(self) -> None:
        """Follow the topic for the life of the process."""
        part = TopicPartition(MODELS, 0)
        async with make_reader(self._kafka) as consumer:
            consumer.assign([part])
            offsets = (await held(consumer, [part]))[part]
            for record in [record async for record in read(consumer, part, offsets)]:
                self.note(record)
            consumer.seek(part, offsets.stop)
            self._read.set()
            async for record in consumer:
                self.note(record)

    def note(self, record: KafkaRecord) -> None:
        """Take down one update; workers say what is wrong with one that cannot be read."""
        update = read_update(record.value)
        if not isinstance(update, Unreadable) and update.takes_effect(self._live):
            self._live, self.now = update, update.merchant_threshold
