"""The troubles of `panther chaos` that come through Kafka: what befalls the topics, what outsiders write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import signal
import time
from collections.abc import Iterator

import numpy as np

from bench.chaos.stage import ChaosStage
from bench.chaos.traffic import Flow, send, to_transactions
from bench.outsiders import ODD_IDS, POISON_IDS, decision, forgeries, garbage
from bench.topics import held_now, make_anew, take_any_timestamp, transact, trim
from bench.waits import poll, within
from panther_core.data.generator.malformed import valid
from panther_core.data.topics import SCORES, TRANSACTIONS
from panther_core.kafka.answers import headers_of
from stream.faust_parts.producer import Outgoing

_HOT_TPS, _HOT_S = 300, 4.0
_GARBAGE = 2000
_IN_2099_MS = 4_070_908_800_000
_COUNTED_S = 60.0  # until workers that have started count what was deleted before they read it
_ENDS = signal.SIGTERM, signal.SIGKILL


async def topic_made_anew(stage: ChaosStage, rng: random.Random) -> str:
    """All workers end, `transactions` is deleted and made anew, and they start again: offsets begin at 0."""
    ending = rng.choice(_ENDS)
    async with stage.quiet(), stage.workers_down(ending):
        await stage.inputs.collect()
        await within(60, "the topic to be made anew", make_anew(stage.system.kafka, stage.system.settings))
        await stage.inputs.begin_anew()
    return f"after {ending.name}"


async def retention_passed(stage: ChaosStage, rng: random.Random) -> str:
    """All workers are down; of what is sent meanwhile all but the last records of each partition are deleted."""
    ending, kept = rng.choice(_ENDS), rng.choice([0, 1, 5])
    kafka = stage.system.kafka
    async with contextlib.AsyncExitStack() as down:
        async with stage.quiet():
            await down.enter_async_context(stage.workers_down(ending))
            read_to = {p: offsets.stop for p, offsets in (await held_now(kafka)).items()}
        await asyncio.sleep(rng.uniform(2, 4))
        async with stage.flow.held():
            await stage.inputs.collect()
            ends = {p: offsets.stop for p, offsets in (await held_now(kafka)).items()}
            unread = {p: range(read_to[p], max(read_to[p], end - kept)) for p, end in ends.items()}
            await trim(kafka, {p: offsets.stop for p, offsets in unread.items()})
            gone = stage.inputs.note_trimmed(unread)
    counted = await poll(lambda: stage.metric("panther_records_trimmed_total"), lambda n: n >= gone, _COUNTED_S)
    stage.inputs.counted_trimmed += round(counted)
    return f"{gone} records, after {ending.name}"


async def aborted_transactions(stage: ChaosStage, rng: random.Random) -> str:
    """Upstream writes in Kafka transactions, of which every second one is aborted; the last one leaves a marker."""
    for commit in (False, True, False):
        records = [(key, value) for _, (key, value, _) in _payments(rng, rng.randint(1, 5))]
        await within(60, "an upstream transaction to end", transact(stage.system.kafka, records, commit))
    return "2 of 3"


async def hot_user(stage: ChaosStage, rng: random.Random) -> str:
    """One user pays hundreds of times a second, for some seconds."""
    user, end_s = f"hot-{secrets.token_hex(3)}", time.monotonic() + _HOT_S
    records = ((key, value or b"") for _, (key, value, _) in _payments(rng, 10**6, user_id=user))
    sent = await send(stage.system.kafka, to_transactions(records), _HOT_TPS, lambda: time.monotonic() > end_s, Flow())
    return f"{sent} payments in {_HOT_S:.0f} s"


async def poison_keys(stage: ChaosStage, rng: random.Random) -> str:
    """Payments of users whose ids are keys of the program, or look like them; then a worker is killed."""
    ids = [*POISON_IDS, *ODD_IDS]
    await stage.store([record for word in ids for record in _payments(rng, 1, user_id=word)])
    return f"{len(ids)} ids, {_kill_one(stage, rng)} killed"


async def forged_outputs(stage: ChaosStage, rng: random.Random) -> str:
    """An outsider writes broken and forged decisions in the application's name; then a worker is killed."""
    partition = rng.randrange(stage.system.settings.partitions)
    app_id, coming = stage.system.settings.app_id, (await held_now(stage.system.kafka))[partition].stop
    forged = forgeries(app_id, partition, coming)
    for ahead in range(50):  # one of these is still to come when the killed worker's successor reads back
        headers = headers_of(app_id, partition, coming + ahead)
        forged.append((SCORES, (b"", decision(f"forged-{ahead}", "somebody"), headers)))
    stage.forged.update(await stage.store(forged, partition))
    return f"{len(forged)} records, {_kill_one(stage, rng)} killed"


async def garbage_producer(stage: ChaosStage, rng: random.Random) -> str:
    """A producer of another system sends thousands of messages at once, none of which is a payment."""
    await stage.store([(TRANSACTIONS, (b"acct-%d" % rng.randrange(7), garbage(i), [])) for i in range(_GARBAGE)])
    return f"{_GARBAGE} messages"


async def clock_in_2099(stage: ChaosStage, rng: random.Random) -> str:
    """A producer's clock is decades ahead; for some payments it sets the record's timestamp too."""
    kafka = stage.system.kafka
    await within(60, "the topic to take any timestamp", take_any_timestamp(kafka))
    far = _payments(rng, 5, event_time=_IN_2099_MS)
    await stage.store(far, timestamp_ms=_IN_2099_MS)
    await stage.store(_payments(rng, 5, event_time="2099-01-01T00:00:00Z"))
    await stage.store(_payments(rng, 5), timestamp_ms=_IN_2099_MS)
    return "15 payments"


def _kill_one(stage: ChaosStage, rng: random.Random) -> str:
    name = rng.choice(stage.names)
    with stage.kept_down(name):
        stage.kill(name)
    return name


def _payments(rng: random.Random, count: int, **changes: object) -> Iterator[tuple[str, Outgoing]]:
    """Payments of their own ids, as records to `transactions`."""
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    for _ in range(count):
        payment = valid(0, numbers) | {"transaction_id": f"trouble-{secrets.token_hex(8)}"} | changes
        yield TRANSACTIONS, (str(payment["user_id"]).encode(), json.dumps(payment).encode(), [])


LOG_TROUBLES = (
    *(topic_made_anew, retention_passed, aborted_transactions, hot_user),
    *(poison_keys, forged_outputs, garbage_producer, clock_in_2099),
)
