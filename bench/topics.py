"""What operators, retention and upstream transactions do to a topic: for `panther bench cases` and `panther chaos`.

A topic is deleted and made anew, records are deleted before they were read, a transaction is aborted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.create_topics import admin_of, create_topics
from infra.local.errors import StackError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import TRANSACTIONS, Topic, all_topics
from panther_core.kafka.answers import Position
from panther_core.kafka.reading import held, make_reader, partitions_of, read

_GONE_S = 30.0  # until a deleted topic may be made again
_POLL_S = 0.2
_COUNTED = 200  # offsets of a partition: a longer rest is not read to tell records from markers


async def make_anew(kafka: KafkaSettings, settings: PantherSettings, topic: str = TRANSACTIONS) -> None:
    """Delete a topic and make it again: its offsets begin at 0. Raises StackError when it does not go away."""
    async with admin_of(kafka) as admin:
        await admin.delete_topics([topic])
        for _ in range(round(_GONE_S / _POLL_S)):
            if topic not in await admin.list_topics():
                break
            await asyncio.sleep(_POLL_S)
        else:
            raise StackError(f"expected topic {topic} to be gone {_GONE_S:.0f} s after its deletion, it is still there")
    await create_topics(kafka, settings)


async def held_now(kafka: KafkaSettings, topic: str = TRANSACTIONS) -> dict[int, range]:
    """The offsets that each partition of a topic holds."""
    async with make_reader(kafka) as consumer:
        parts = await partitions_of(consumer, topic)
        return {part.partition: offsets for part, offsets in (await held(consumer, parts)).items()}


async def trim(kafka: KafkaSettings, before: Mapping[int, int], topic: str = TRANSACTIONS) -> None:
    """Delete the records of each partition that lie before an offset, as retention does."""
    async with admin_of(kafka) as admin:
        await admin.delete_records(
            {TopicPartition(topic, p): RecordsToDelete(before_offset=offset) for p, offset in before.items()}
        )


async def add_partitions(kafka: KafkaSettings, count: int, topic: str = TRANSACTIONS) -> None:
    """Give a topic more partitions: `count` in all."""
    async with admin_of(kafka) as admin:
        await admin.create_partitions({topic: NewPartitions(count)})


async def configure(kafka: KafkaSettings, topic: Topic, **config: str) -> None:
    """Set configs of a topic in addition to its own ones; `_` in a name stands for `.`."""
    named = topic.config | {name.replace("_", "."): value for name, value in config.items()}
    async with admin_of(kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, named)])


async def take_any_timestamp(kafka: KafkaSettings) -> None:
    """Let `transactions` take timestamps of the far future, as brokers before Kafka 4 do."""
    (topic,) = (topic for topic in all_topics(PantherSettings()) if topic.name == TRANSACTIONS)
    await configure(kafka, topic, message_timestamp_after_max_ms=str(2**63 - 1))


async def transact(
    kafka: KafkaSettings, records: Iterable[tuple[bytes | None, bytes | None]], commit: bool
) -> list[Position]:
    """Send records to `transactions` in one Kafka transaction, which is committed or aborted; where each lies."""
    options = kafka.client_options() | {"transactional_id": f"upstream-{secrets.token_hex(4)}"}
    async with AIOKafkaProducer(**options) as producer:
        await producer.begin_transaction()
        sent = await asyncio.gather(*[await producer.send(TRANSACTIONS, value, key=key) for key, value in records])
        await (producer.commit_transaction() if commit else producer.abort_transaction())
        return [(done.partition, done.offset) for done in sent]


async def unread(kafka: KafkaSettings, group: str, topic: str = TRANSACTIONS) -> int:
    """Records that the group has not committed; what no consumer can be given (markers, aborted, deleted) is no record.

    Raises OSError, KafkaError where Kafka does not say.
    """
    async with AIOKafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False) as consumer:
        await consumer._client.force_metadata_update()
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        committed = {part: await consumer.committed(part) or 0 for part in parts}
    count = 0
    async with make_reader(kafka, isolation_level="read_committed") as reader:
        for part, offsets in (await held(reader, parts)).items():
            left = range(max(offsets.start, committed[part]), offsets.stop)
            if len(left) > _COUNTED:
                count += len(left)
            elif left:
                count += len([record async for record in read(reader, part, left)])
    return count
