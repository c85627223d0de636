"""What a run of `panther chaos` or `bench fuzz` left behind: every topic, and the state stores on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from bench.chaos.inputs import EPOCH, Cut, InputLog
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import ALERTS, DEAD_LETTERS, LABELS, MERCHANT_RISK, SCORES, changelog_of, merchants_app
from panther_core.kafka.answers import Position, position_of, seller_of
from panther_core.kafka.reading import KafkaRecord, read_topic

MERCHANTS = "merchants"  # name and folder of the process that keeps merchants
Records = list[KafkaRecord]
Place = tuple[str, int, int]
"""Topic, partition and offset of a record on an output topic."""


@dataclass(frozen=True)
class ChaosEvidence:
    """Records of each topic, by partition and offset; `stores` maps user to state, once for each store folder.

    Positions are those of bench.chaos.inputs: offsets of a topic made anew are shifted.
    """

    inputs: Records
    decisions: Records
    alerts: Records
    dead: Records
    changelog: Records
    stores: list[dict[bytes, bytes]]
    trimmed: frozenset[Position] = frozenset()
    """Inputs that were deleted before they were read; not among `inputs`."""
    counted_trimmed: int = 0
    """How many of those the workers counted."""
    cuts: tuple[Cut, ...] = ()
    labels: Records = field(default_factory=list)
    risk: Records = field(default_factory=list)
    merchants: Records = field(default_factory=list)
    """The changelog of merchants' states."""
    merchant_stores: list[dict[bytes, bytes]] = field(default_factory=list)

    def sellers(self) -> dict[Position, Position]:
        """The record of merchant.risk that the first decision on each input saw, by the input's position."""
        out: dict[Position, Position] = {}
        for record in self.decisions:
            out.setdefault(self.position(record), seller_of(record))
        return out

    def position(self, record: KafkaRecord) -> Position:
        """Position of the input that a decision, an alert or a dead letter answers."""
        partition, offset = position_of(record)
        place = record.topic, record.partition
        return partition, offset + EPOCH * sum(record.offset >= cut.get(place, 0) for cut in self.cuts)

    def appended_ms(self) -> dict[Position, int]:
        """Time at which the first decision of each input was appended, by the broker's clock."""
        first: dict[Position, int] = {}
        for record in self.decisions:
            at = self.position(record)
            first[at] = min(record.timestamp, first.get(at, record.timestamp))
        return first


async def read_evidence(
    kafka: KafkaSettings, app_id: str, folders: list[Path], inputs: InputLog, forged: Set[Place] = frozenset()
) -> ChaosEvidence:
    """Read all topics, and the stores in `folders`, whose workers must have stopped.

    `inputs`: what has been noted so far; the rest is read. `forged`: records that no worker has written.
    """

    def stores(*folders: Path) -> list[dict[bytes, bytes]]:
        return [read_store(path) for folder in folders for path in sorted(folder.glob("**/*.db"))]

    await inputs.collect()

    async def own(topic: str) -> Records:
        return [r for r in await read_topic(kafka, topic) if (r.topic, r.partition, r.offset) not in forged]

    evidence = ChaosEvidence(
        inputs=[],
        decisions=await own(SCORES),
        alerts=await own(ALERTS),
        dead=await own(DEAD_LETTERS),
        changelog=await own(changelog_of(app_id)),
        stores=await asyncio.to_thread(stores, *folders),
        labels=await read_topic(kafka, LABELS),
        risk=await read_topic(kafka, MERCHANT_RISK),
        merchants=await read_topic(kafka, changelog_of(merchants_app(app_id), "merchants")),
        merchant_stores=await asyncio.to_thread(stores, folders[0].parent / MERCHANTS),
        counted_trimmed=inputs.counted_trimmed,
        cuts=tuple(inputs.cuts),
    )
    inputs.note_answered({evidence.position(record) for record in (*evidence.decisions, *evidence.dead)})
    return replace(evidence, inputs=inputs.records, trimmed=inputs.trimmed)


def read_store(path: Path) -> dict[bytes, bytes]:
    """The states in a store by user, without the store's own records, whose keys hold a NUL."""
    store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        return {bytes(key): bytes(value) for key, value in store.items() if b"\0" not in bytes(key)}
    finally:
        store.close()
