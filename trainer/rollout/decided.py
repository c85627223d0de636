"""The stream's decisions as columns, from a moment on: what a watch and the alert budget look at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import SCORES
from panther_core.kafka.answers import Unreadable, app_of, read_decision
from panther_core.kafka.reading import PATIENCE_S, make_reader, partitions_of, read

#: a row for a decision: `appended_ms` is the broker's clock; `version` 0: the rules decided
DECIDED = np.dtype(
    [
        ("appended_ms", "i8"),
        ("version", "u4"),
        ("score", "f8"),
        ("latency_ms", "i4"),
        ("alert", "?"),
        ("degraded", "?"),
    ]
)

_CHUNK = 50_000


class Decisions:
    """Follows `fraud.scores` without a consumer group: of one application, from a moment on."""

    def __init__(self, consumer: AIOKafkaConsumer, app_id: str, at: dict[TopicPartition, int]) -> None:
        self._consumer, self._app_id, self._at = consumer, app_id.encode(), at
        self._parts = [np.zeros(0, DECIDED)]

    async def so_far(self) -> NDArray[np.void]:
        """DECIDED rows [N] up to the topic's end as of now."""
        ends = await self._consumer.end_offsets([*self._at])
        found, parts = list[tuple[int, int, float, int, bool, bool]](), []
        for part, start in self._at.items():
            async for record in read(self._consumer, part, range(start, ends[part]), PATIENCE_S):
                decision = read_decision(record.value)
                if app_of(record) != self._app_id or isinstance(decision, Unreadable):
                    continue
                version, degraded = decision.model.version, decision.degraded is not None
                facts = (record.timestamp, version, decision.score, decision.latency_ms, decision.alert, degraded)
                found.append(facts)
                if len(found) >= _CHUNK:  # tuples take ten times the room of rows
                    parts.append(np.array(found, DECIDED))
                    found.clear()
            self._at[part] = max(start, ends[part])
        self._parts = [np.concatenate([*self._parts, *parts, np.array(found, DECIDED)])]
        return self._parts[0]


@asynccontextmanager
async def decisions_since(kafka: KafkaSettings, app_id: str, since_ms: int) -> AsyncIterator[Decisions]:
    """The decisions that were appended from `since_ms` (epoch ms) on. Raises BadInput where there is no such topic."""
    async with make_reader(kafka) as consumer:
        parts = await partitions_of(consumer, SCORES)
        if not parts:
            raise BadInput(f"expected a topic {SCORES}, found none: make it with `panther topics create`")
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found = await consumer.offsets_for_times(dict.fromkeys(parts, max(0, since_ms)))
        at = {part: ends[part] if (place := found.get(part)) is None else place.offset for part in parts}
        yield Decisions(consumer, app_id, at)
