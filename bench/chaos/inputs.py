"""What `panther chaos` knows of the records on `transactions`, noted as they go: some troubles delete them.

A topic made anew and a trimmed log lose their records, so they are read before. Offsets of a topic made anew begin at 0
again; in the notes each such beginning adds EPOCH to them, so that a position names one record.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from bench.topics import held_now
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES, TRANSACTIONS
from panther_core.kafka.answers import Position
from panther_core.kafka.reading import KafkaRecord, held, make_reader, partitions_of, read
from panther_core.state.record import at_source

EPOCH = at_source(1, 0)
OUTPUTS = SCORES, ALERTS, DEAD_LETTERS

Cut = dict[tuple[str, int], int]
"""Where each partition of the output topics ended when `transactions` was made anew."""


class InputLog:
    """Every committed record of `transactions`, those that were deleted included."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._records: dict[Position, KafkaRecord] = {}
        self._read_to: dict[int, int] = {}  # partition -> offset, in the topic as it is
        self._trimmed: set[Position] = set()
        self.cuts: list[Cut] = []
        self.counted_trimmed = 0
        """Records that the workers say were deleted before they read them."""

    async def collect(self) -> None:
        """Read what has been stored since the last time. Records of aborted transactions are no inputs."""
        shift = EPOCH * len(self.cuts)
        async with make_reader(self._kafka, isolation_level="read_committed") as consumer:
            parts = await partitions_of(consumer, TRANSACTIONS)
            for part, offsets in (await held(consumer, parts)).items():
                start = max(offsets.start, self._read_to.get(part.partition, 0))
                async for record in read(consumer, part, range(start, offsets.stop)):
                    at = part.partition, record.offset + shift
                    self._records[at] = replace(record, offset=at[1])
                self._read_to[part.partition] = offsets.stop

    def note_trimmed(self, unread: Mapping[int, range]) -> int:
        """Offsets of each partition that are deleted before anybody read them; returns how many records that are."""
        shift = EPOCH * len(self.cuts)
        gone = {(p, offset + shift) for p, offsets in unread.items() for offset in offsets} & self._records.keys()
        self._trimmed |= gone
        return len(gone)

    def note_answered(self, places: Set[Position]) -> None:
        """Of the records that were deleted uncommitted, these had been read: a worker that was killed answered them."""
        self._trimmed -= places

    async def begin_anew(self) -> None:
        """`transactions` has been made anew: what is published from now on answers the new topic's records."""
        cut: Cut = {}
        for topic in OUTPUTS:
            cut |= {(topic, p): offsets.stop for p, offsets in (await held_now(self._kafka, topic)).items()}
        self.cuts.append(cut)
        self._read_to.clear()

    @property
    def records(self) -> list[KafkaRecord]:
        """Every record that a worker could read, topic after topic, by partition and offset."""
        there = self._records.keys() - self._trimmed
        return [self._records[at] for at in sorted(there, key=lambda at: (at[1] // EPOCH, at))]

    @property
    def trimmed(self) -> frozenset[Position]:
        """Positions of the records that were deleted before they were read."""
        return frozenset(self._trimmed)
