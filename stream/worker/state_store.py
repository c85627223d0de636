"""Users' states on disk and in the changelog: one read and one write for each partition of a micro-batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray
from rocksdict import WriteBatch

from panther_core.data.events import ModelProgress
from panther_core.data.topics import PROGRESS
from panther_core.decide.records import to_json
from panther_core.state.record import MARK, StateCodec
from stream.faust_parts.internals import partition_store
from stream.faust_parts.producer import Outgoing, Producer
from stream.faust_parts.recovery import noticing_damage


@dataclass
class StoredBatch:
    """Finished events: their states are in RocksDB, and the changelog records on their way.

    If the partition assignment has changed since `generation`, nothing is written or acked.
    """

    generation: int
    events: list[Any]
    sends: dict[int, asyncio.Future[list[range]]] = field(default_factory=dict)  # by partition: changelog offsets
    made_s: float = field(default_factory=time.monotonic)


class StateStore:
    """States by user key (the Kafka key) and partition, for tables of one Faust application."""

    def __init__(self, table: Any, changelog: Producer) -> None:
        self._table, self._changelog = table, changelog

    def read(self, keys: list[bytes], partitions: list[int], codec: StateCodec) -> NDArray[Any]:
        """State records [U] of users; fresh ones for users never seen. One multi-get for each partition."""
        return codec.decode(self.beside(keys, partitions))

    async def write(
        self,
        keys: list[bytes],
        partitions: list[int],
        states: NDArray[Any],
        codec: StateCodec,
        out: StoredBatch,
        marks: Mapping[int, bytes] = MappingProxyType({}),
        beside: Mapping[int, list[tuple[bytes, bytes]]] = MappingProxyType({}),
    ) -> None:
        """Send states to the changelog and write them, one WriteBatch for each partition; `out` gets the sends.

        `marks`: by partition, what is written and sent with the states under MARK (stream.worker.source_log).
        `beside`: by partition, other pairs that are written and sent with them (stream.worker.paid).
        """
        # first what lies beside the states: where a crash leaves the changelog with a state, it has what belongs to it
        by_partition = {partition: list(pairs) for partition, pairs in beside.items()}
        for key, partition, value in zip(keys, partitions, codec.encode(states), strict=True):
            by_partition.setdefault(partition, []).append((key, value))
        for partition, values in by_partition.items():
            if partition in marks:
                values.append((MARK, marks[partition]))
            records: list[Outgoing] = [(key, value, []) for key, value in values]
            out.sends[partition] = await self._changelog.send_all(self._table.changelog_topic_name, partition, records)
            batch = WriteBatch(raw_mode=True)
            for key, value in values:
                batch.put(key, value)
            with noticing_damage(self._table, partition):
                partition_store(self._table, partition).write(batch)

    def beside(self, keys: list[bytes], partitions: list[int]) -> list[bytes | None]:
        """What lies beside the states under these keys [N]. One multi-get for each partition."""
        values: list[bytes | None] = [None] * len(keys)
        for partition in set(partitions):
            at = [i for i, p in enumerate(partitions) if p == partition]
            with noticing_damage(self._table, partition):
                found = partition_store(self._table, partition).get([keys[i] for i in at])
            for i, value in zip(at, found, strict=True):
                values[i] = value
        return values

    async def put(self, partition: int, pairs: Sequence[tuple[bytes, bytes | None]], out: StoredBatch) -> None:
        """Send pairs that lie beside the states to the changelog, and write them; None deletes."""
        if not pairs:
            return
        records: list[Outgoing] = [(key, value, []) for key, value in pairs]
        out.sends[partition] = await self._changelog.send_all(self._table.changelog_topic_name, partition, records)
        batch = WriteBatch(raw_mode=True)
        for key, value in pairs:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        with noticing_damage(self._table, partition):
            partition_store(self._table, partition).write(batch)

    async def forget(self, key: bytes, partition: int, out: StoredBatch, prefix: bytes = b"") -> None:
        """Delete a user's state, if the partition holds one; `out` gets the send of the changelog's tombstone.

        `prefix`: of what is deleted beside it.

        The changelog comes first: a store that lacks the state must not be all that is left of an interrupted deletion.
        """
        store = partition_store(self._table, partition)
        with noticing_damage(self._table, partition):
            keys = [*takewhile(lambda k: k.startswith(prefix), store.keys(from_key=prefix))] if prefix else []
            if not keys and store.get(key) is None:
                return
            keys.append(key)  # last: whoever goes on after a crash finds what is left
        records: list[Outgoing] = [(gone, None, []) for gone in keys]
        out.sends[partition] = await self._changelog.send_all(self._table.changelog_topic_name, partition, records)
        await out.sends[partition]
        with noticing_damage(self._table, partition):
            for gone in keys:
                store.delete(gone)

    async def report(self, progress: ModelProgress) -> None:
        """Publish that a partition's users have moved: through the same producer as their states, so after them."""
        key = f"{progress.app_id}:{progress.partition}".encode()
        await self._changelog.send(PROGRESS, to_json(progress), key=key)
