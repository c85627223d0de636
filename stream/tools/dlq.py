"""The dead-letter topic as an operator works with it: look through it, look at one record, send records again.

A dead letter was never applied to any state. When its record is sent again, it is a transaction like any other: it is
decided if the cause has been mended, and becomes a dead letter once more if not. When a record is sent again twice, the
second copy is answered with the first copy's decision, as long as the user's state holds that decision (a state holds
the last 8; docs/dead_letters.md).
"""

from __future__ import annotations

import base64
import heapq
from asyncio import gather
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import DEAD_LETTERS, TRANSACTIONS
from panther_core.kafka.answers import header_of
from panther_core.kafka.reading import PATIENCE_S, KafkaRecord, held, make_reader, partitions_of, read
from stream.faust_parts.producer import make_producer
from stream.worker.letters import KEPT_BYTES

#: header of a transaction that was sent again: topic:partition:offset of the dead letter
REPLAYED = "replayed"


@dataclass(frozen=True)
class Letter:
    """One record of the dead-letter topic. `time_ms`: when it was put there; `source`: where it came from.

    `code`, `reason` and `source` are printable, whatever is on the topic.
    """

    partition: int
    offset: int
    time_ms: int
    code: str
    reason: str
    source: str
    key: bytes | None
    value: bytes | None
    cut: bool = False
    """Only the beginning of key and value was kept, since the record was larger than KEPT_BYTES."""

    @property
    def place(self) -> str:
        """`partition:offset`, as the commands name a dead letter."""
        return f"{self.partition}:{self.offset}"

    def summary(self) -> dict[str, Any]:
        """For JSON, without key and value."""
        names = ("partition", "offset", "time_ms", "code", "reason", "source", "cut")
        return {name: getattr(self, name) for name in names}

    def whole(self) -> dict[str, Any]:
        """For JSON, with key and value as readable text and, exact, in base64."""
        out = self.summary()
        for name, data in (("key", self.key), ("value", self.value)):
            out[name] = None if data is None else printable(data.decode("utf-8", "backslashreplace"))
            out[f"{name}_base64"] = None if data is None else base64.b64encode(data).decode()
        return out


def printable(text: str) -> str:
    """`text` on one line, with escapes in place of control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def parse_place(text: str) -> tuple[int, int]:
    """Partition and offset of `partition:offset`. Raises BadInput."""
    partition, _, offset = text.partition(":")
    if not all(number.isdecimal() and len(number) < 20 for number in (partition, offset)):
        raise BadInput(f"expected partition:offset like 3:1207, got {text!r}: `panther dlq list` prints them")
    return int(partition), int(offset)


async def letters(kafka: KafkaSettings, code: str | None = None) -> AsyncIterator[Letter]:
    """Every dead letter up to the end of the topic as of now, partition by partition; of one code where given.

    Raises BadInput where there is no such topic.
    """
    async with make_reader(kafka) as consumer:
        for part, offsets in (await _held(consumer)).items():
            async for record in read(consumer, part, offsets, PATIENCE_S):
                letter = letter_of_record(record)
                if code in (None, letter.code):
                    yield letter


async def newest(kafka: KafkaSettings, limit: int, code: str | None = None) -> tuple[list[Letter], Counter[str]]:
    """The newest `limit` dead letters, oldest first, and how many there are of each code. Raises BadInput."""
    count: Counter[str] = Counter()
    kept: list[tuple[int, int, int, Letter]] = []  # a heap: the oldest goes first, so only `limit` are held in memory
    async for letter in letters(kafka, code):
        count[letter.code] += 1
        heapq.heappush(kept, (letter.time_ms, letter.partition, letter.offset, letter))
        if len(kept) > limit:
            heapq.heappop(kept)
    return [entry[-1] for entry in sorted(kept)], count


async def letters_of(kafka: KafkaSettings, code: str | None) -> list[Letter]:
    """`letters`, all of them in memory."""
    return [letter async for letter in letters(kafka, code)]


async def letters_at(kafka: KafkaSettings, places: Iterable[str]) -> list[Letter]:
    """The dead letters at `partition:offset` places, each once, in order. Raises BadInput."""
    return [await letter_at(kafka, *place) for place in sorted(set(map(parse_place, places)))]


async def letter_at(kafka: KafkaSettings, partition: int, offset: int) -> Letter:
    """One dead letter. Raises BadInput where there is none."""
    async with make_reader(kafka) as consumer:
        part = TopicPartition(DEAD_LETTERS, partition)
        if offset in (await _held(consumer)).get(part, ()):
            async for record in read(consumer, part, range(offset, offset + 1), PATIENCE_S):
                return letter_of_record(record)
    raise BadInput(
        f"expected a dead letter at {partition}:{offset}, there is none (any more): `panther dlq list` says which are"
    )


async def send_again(kafka: KafkaSettings, chosen: list[Letter]) -> int:
    """Put the records of dead letters on `transactions` again, as they were; returns how many, once all are durable.

    Each record goes to the partition it came from, where its user's state is, whatever partitioner its producer
    used. Raises BadInput, and sends none, where only the beginning of one of them was kept.
    """
    if cut := [letter.place for letter in chosen if letter.cut]:
        raise BadInput(
            f"expected whole records, but of {', '.join(cut[:5])} only the beginning was kept, since they were larger "
            f"than {KEPT_BYTES} bytes: leave them out, and ask whoever produced them"
        )
    async with make_producer(kafka) as producer:
        sends = []
        for letter in chosen:
            headers = [(REPLAYED, f"{DEAD_LETTERS}:{letter.place}".encode())]
            place = {"key": letter.key, "partition": letter.partition, "headers": headers}
            sends.append(await producer.send(TRANSACTIONS, letter.value, **place))
        await gather(*sends)
    return len(sends)


async def _held(consumer: AIOKafkaConsumer) -> dict[TopicPartition, range]:
    parts = await partitions_of(consumer, DEAD_LETTERS)
    if not parts:
        raise BadInput(f"expected the topic {DEAD_LETTERS}, found none: make the topics with `panther topics create`")
    return await held(consumer, parts)


def letter_of_record(record: KafkaRecord) -> Letter:
    """What a record of the dead-letter topic says, whoever wrote it."""
    names = ("code", "reason", "source")
    words = (header_of(record, name).decode(errors="replace") or "unknown" for name in names)
    code, reason, source = map(printable, words)
    place = record.partition, record.offset, record.timestamp
    return Letter(*place, code, reason, source, record.key, record.value, "cut" in dict(record.headers))
