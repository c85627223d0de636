"""One way to read a topic from one offset to another, without a consumer group and without committing anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import ConsumerRecord

from panther_core.base.errors import BadInput, KafkaUnavailable
from panther_core.base.settings import KafkaSettings

KafkaRecord: TypeAlias = ConsumerRecord[bytes, bytes]

_AT_ONCE = 2000  # largest number of records that the client hands over in one call
_POLL_MS = 500
#: patience of a command that reads: a broker that gives nothing for so long is gone
PATIENCE_S = 15.0
_ANSWER_S = 10.0
_COORDINATOR_TRIES, _COORDINATOR_S = 10, 0.5
_FETCH_BYTES = 8 << 20  # of one partition; a whole topic takes fewer requests than with the client's default of 1 MiB


async def broker_problem(options: Mapping[str, Any], within_s: float = _ANSWER_S) -> str | None:
    """None where a broker answers a metadata request within `within_s`, else what is wrong.

    `options`: of an aiokafka client (KafkaSettings.client_options). Each address gets its share of the time.
    """
    servers = options["bootstrap_servers"]
    share_ms = int(within_s * 1000 / (servers.count(",") + 1))
    client = AIOKafkaClient(**{**options, "request_timeout_ms": share_ms})
    try:
        await asyncio.wait_for(client.bootstrap(), within_s)
        return None if client.cluster.brokers() else f"{servers} answers but names no broker"
    except (KafkaError, OSError, TimeoutError) as error:
        return f"no Kafka answers at {servers} ({type(error).__name__})"
    finally:
        await client.close()


async def require_kafka(kafka: KafkaSettings) -> None:
    """Raises KafkaUnavailable where no broker answers within ten seconds; what is done next may wait for longer."""
    if problem := await broker_problem(kafka.client_options()):
        raise kafka_unavailable(kafka, problem)


def kafka_unavailable(kafka: KafkaSettings, problem: str) -> KafkaUnavailable:
    """The error that says what was expected where, and what to do."""
    return KafkaUnavailable(
        f"expected a broker to answer ({kafka.security_protocol}), but {problem}: start it (on this machine: "
        "`panther up`), or correct KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_* settings"
    )


class _Reader(AIOKafkaConsumer):
    """aiokafka's consumer, which can be stopped at any moment.

    Its task has begun when it is started: one that is cancelled before its first step ends with a CancelledError,
    whatever its code catches, and `stop` would raise that in the middle of whoever closes a reader at once. And it has
    ended before `stop` waits for it: while it drops the requests of an earlier assignment it takes a cancellation for
    that of a request, goes on, and would be waited for without end.
    """

    async def start(self) -> None:
        """Connect."""
        await super().start()
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Disconnect."""
        task = self._fetcher._fetch_task if self._fetcher else None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
        await super().stop()


def make_reader(kafka: KafkaSettings, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group, to be entered with `async with`. `options` override the options chosen here."""
    chosen = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "fetch_max_wait_ms": 50}
    chosen["isolation_level"] = "read_committed"  # what a sender took back was never sent; ends are those of the rest
    return _Reader(**kafka.client_options(), **(chosen | options))


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Partitions of a topic in ascending order; an empty list where there is no such topic.

    To be called before the reader's first `assign`: after it the client fetches metadata of assigned topics alone.
    """
    # The client starts without any topic's metadata, and aiokafka has no public call that fetches it for one topic.
    await consumer._client.force_metadata_update()
    return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]


async def held(consumer: AIOKafkaConsumer, parts: Iterable[TopicPartition]) -> dict[TopicPartition, range]:
    """The offsets that each partition holds as of now."""
    parts = list(parts)
    low, end = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    return {part: range(low[part], end[part]) for part in parts}


async def read(
    consumer: AIOKafkaConsumer, part: TopicPartition, offsets: range, patience_s: float | None = None
) -> AsyncIterator[KafkaRecord]:
    """The records at `offsets` of one partition, in the order of offsets. Compaction may have left gaps.

    Assigns the partition to the reader, whose position afterwards is at or beyond `offsets.stop`. Waits for the broker
    without a time limit, or raises KafkaUnavailable after `patience_s` without news of it.
    """
    if consumer.assignment() != {part}:
        consumer.assign([part])
    consumer.seek(part, offsets.start)
    seen, seen_s = offsets.start, time.monotonic()
    while (position := await consumer.position(part)) < offsets.stop:
        if position > seen:
            seen, seen_s = position, time.monotonic()
        elif patience_s is not None and time.monotonic() - seen_s > patience_s:
            raise KafkaUnavailable(
                f"expected the records of {part.topic} {part.partition}:{position} to {offsets.stop - 1}, got none for "
                f"{patience_s:.0f} s: the broker has gone or its disk does not answer; try again when it is back"
            )
        for records in (await consumer.getmany(part, timeout_ms=_POLL_MS, max_records=_AT_ONCE)).values():
            for record in records:
                if record.offset < offsets.stop:
                    yield record


async def chunks_from_end(
    consumer: AIOKafkaConsumer, part: TopicPartition, chunk: int
) -> AsyncIterator[list[KafkaRecord]]:
    """The records of a partition as of now, the last `chunk` offsets first; within a chunk in the order of offsets."""
    consumer.assign([part])
    offsets = (await held(consumer, [part]))[part]
    for stop in range(offsets.stop, offsets.start, -chunk):
        yield [record async for record in read(consumer, part, range(max(offsets.start, stop - chunk), stop))]


async def members(kafka: KafkaSettings, group: str) -> int | None:
    """Number of members of a consumer group, also 0 where no broker coordinates it; None while its partitions are being
    assigned."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        for _ in range(_COORDINATOR_TRIES):
            # a new cluster makes its topic of groups when it is asked for one
            with suppress(GroupCoordinatorNotAvailableError):
                (reply,) = await admin.describe_consumer_groups([group])
                _, _, state, _, _, found = reply.groups[0][:6]
                return None if state.endswith("Rebalance") else len(found)
            await asyncio.sleep(_COORDINATOR_S)
        return 0
    finally:
        await admin.close()


async def read_topic(kafka: KafkaSettings, topic: str, partition: int | None = None) -> list[KafkaRecord]:
    """Every record of a topic (or of one partition of it) up to its end as of now, by partition and offset.

    Raises BadInput where there is no such topic.
    """
    async with make_reader(kafka, max_partition_fetch_bytes=_FETCH_BYTES) as consumer:
        parts = await partitions_of(consumer, topic)
        if not parts:
            raise BadInput(
                f"expected a topic {topic} at {kafka.bootstrap_servers}, found none: check its name and "
                "KAFKA_BOOTSTRAP_SERVERS, or make the topics with `panther topics create`"
            )
        offsets = await held(consumer, [part for part in parts if partition in (None, part.partition)])
        return [record for part, own in offsets.items() async for record in read(consumer, part, own, PATIENCE_S)]
