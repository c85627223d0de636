"""The contender `bare_loop_tps` of `panther bench worker`: an aiokafka loop that consumes, answers, produces, commits.

It has no state and no guarantees, so its rate is the ceiling of this Kafka client.

python -m bench.worker.bare_loop GROUP OUT_TOPIC
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.worker.same_job import decide
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.producer import make_producer


async def main() -> None:
    """Run until stopped."""
    group, out_topic = sys.argv[1:]
    kafka = KafkaSettings()
    consumer = AIOKafkaConsumer(
        TRANSACTIONS, **kafka.client_options(), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with consumer, make_producer(kafka) as producer:
        while True:
            sends = []
            for records in (await consumer.getmany(timeout_ms=20, max_records=1000)).values():
                for record in records:
                    value = decide(msgspec.json.decode(record.value), None)
                    sends.append(await producer.send(out_topic, value, key=record.key, partition=record.partition))
            if sends:
                await asyncio.gather(*sends)
                await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())
