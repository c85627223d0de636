"""Records on another partition than their key's, and a topic with more partitions than the states have."""

from __future__ import annotations

import asyncio
import zlib

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, sending
from bench.topics import add_partitions
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.producer import make_producer


async def foreign_partitioner(stage: CaseStage, seen: Seen) -> None:
    """One user's payments, in turn by a Java-like producer (murmur2) and by librdkafka's default (crc32)."""
    count = stage.settings.partitions
    async with make_producer(stage.kafka) as producer:
        await producer.partitions_for(TRANSACTIONS)
        users = [f"{stage.run}-split-{i}" for i in range(50)]
        homes = {user: producer.partition_of(TRANSACTIONS, user.encode()) for user in users}
    user = next(u for u in users if zlib.crc32(u.encode()) % count != homes[u])
    foreign = zlib.crc32(user.encode()) % count
    before = await stage.metric("panther_dead_letters_total", code="wrong_partition")
    records = [
        sending(stage.payment(f"split-{i}", user_id=user), partition=foreign if i % 2 else None) for i in range(10)
    ]
    answers = await stage.answers(await stage.send(records))
    seen.decided(answers[::2], "on the key's partition")
    lengths = [d.history_len for answer in answers[::2] for d in answer.decisions]
    seen.that(lengths == [0, 1, 2, 3, 4], f"their history_len {lengths}")
    seen.refused(answers[1::2], "wrong_partition", "on another")
    counted = await stage.metric("panther_dead_letters_total", code="wrong_partition") - before
    seen.that(counted == 5, f"counted {counted:.0f}")


async def more_partitions_than_states(stage: CaseStage, seen: Seen) -> None:
    """An operator adds a partition to `transactions` alone: refused at once, and /readyz says so."""
    seen.decided(await stage.pay(stage.payment("narrow")), "before")
    await add_partitions(stage.kafka, stage.settings.partitions + 1)
    await stage.stop_worker()
    await asyncio.to_thread(stage.system.start_worker)
    ended = await stage.ended(60)
    status, said = (0, "") if ended else await stage.ask("/readyz")
    lines = stage.lines(r"partition")
    seen.that(status != 200, f"refused: ended {ended}, /readyz {status}")
    seen.that(bool(lines) or "partition" in said, f"it says: {said[:200] or (lines or ['nothing'])[-1][:200]}")
