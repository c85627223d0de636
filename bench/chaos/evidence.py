"""What a run of `panther chaos` or `bench fuzz` left behind: every topic, and the state stores on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES, TRANSACTIONS, changelog_of
from panther_core.kafka.answers import Position, position_of
from panther_core.kafka.reading import KafkaRecord, read_topic

Records = list[KafkaRecord]


@dataclass(frozen=True)
class ChaosEvidence:
    """Records of each topic, by partition and offset; `stores` maps user to state, once for each store folder."""

    inputs: Records
    decisions: Records
    alerts: Records
    dead: Records
    changelog: Records
    stores: list[dict[bytes, bytes]]

    def appended_ms(self) -> dict[Position, int]:
        """Time at which the first decision of each input was appended, by the broker's clock."""
        first: dict[Position, int] = {}
        for record in self.decisions:
            at = position_of(record)
            first[at] = min(record.timestamp, first.get(at, record.timestamp))
        return first


async def read_evidence(kafka: KafkaSettings, app_id: str, folders: list[Path]) -> ChaosEvidence:
    """Read all topics, and the stores in `folders`, whose workers must have stopped."""
    stores = await asyncio.to_thread(lambda: [read_store(path) for f in folders for path in sorted(f.glob("**/*.db"))])
    return ChaosEvidence(
        inputs=await read_topic(kafka, TRANSACTIONS),
        decisions=await read_topic(kafka, SCORES),
        alerts=await read_topic(kafka, ALERTS),
        dead=await read_topic(kafka, DEAD_LETTERS),
        changelog=await read_topic(kafka, changelog_of(app_id)),
        stores=stores,
    )


def read_store(path: Path) -> dict[bytes, bytes]:
    """The states in a store by user, without the store's own records, whose keys begin with `__`."""
    store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        return {bytes(key): bytes(value) for key, value in store.items() if not bytes(key).startswith(b"__")}
    finally:
        store.close()
