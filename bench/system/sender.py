"""The sender of `panther bench e2e`, `swap` and `outage`: a fixed rate, open loop, through librdkafka.

A benchmark's sender shares the cores with the system that it measures, though in production it would run elsewhere, so
it must be cheap: `stream.tools.produce` (aiokafka) takes a third of a core at 1,800 records a second (docs/log.md). The
two share no schedule: `produce` also plays given due times, and bounds its chunks for its asynchronous producer.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.local.errors import StackError
from panther_core.base.errors import PantherError
from panther_core.data.events import Transaction
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from stream.tools.produce import Produced

#: Each tick makes one request for each partition. The wait of a transaction for its tick counts as latency, though a
#: real stream has no ticks; shorter ticks would cost the broker more (docs/log.md).
_TICK_S = 0.005
_FLUSH_S = 30.0
SPAWN = multiprocessing.get_context("spawn")


Encode = Callable[[Transaction], bytes]


def send_at_rate(
    bootstrap: str,
    table: TransactionTable,
    rate: float,
    stop: Callable[[], bool],
    topic: str = TRANSACTIONS,
    encode: Encode | None = None,
) -> Produced:
    """Send the rows of `table` in order, `rate` a second, until all are durable or `stop` returns true.

    `bootstrap` is the local broker. Keys, partitions and timestamps (the time each row was due) are those of
    `stream.tools.produce`; so are values, but where `encode` makes others. Raises StackError when records could not be
    stored.
    """
    failed: list[str] = []

    def note(error: KafkaError | None, _: Message) -> None:
        failed.append(str(error))

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "log_level": 3,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.timeout.ms": int(1000 * _FLUSH_S),
            "delivery.report.only.error": True,
        }
    )
    try:
        problem = producer.list_topics(topic, timeout=_FLUSH_S).topics[topic].error
    except KafkaException as error:
        problem = error.args[0]
    if problem is not None:
        raise StackError(f"expected topic {topic} at {bootstrap}, got {problem}: is the broker up?")
    encode, rows = encode or msgspec.json.Encoder().encode, table.rows()
    started_s, sent, late_s = time.time(), 0, 0.0
    while sent < len(table) and not failed and not stop():
        ahead_s = started_s + sent / rate - time.time()
        if ahead_s > 0:
            time.sleep(max(ahead_s, _TICK_S))
        now_s = time.time()
        late_s = max(late_s, now_s - started_s - sent / rate)
        for i in range(sent, min(len(table), 1 + int((now_s - started_s) * rate))):
            row = next(rows)
            due_ms = int(1000 * (started_s + i / rate))
            producer.produce(topic, encode(row), row.user_id.encode(), timestamp=due_ms, on_delivery=note)
            sent = i + 1
        producer.poll(0)
    unsent = producer.flush(_FLUSH_S)
    if failed or unsent:
        raise StackError(
            f"expected {topic} at {bootstrap} to take {sent} transactions, got {len(failed)} refused and {unsent} not "
            f"answered within {_FLUSH_S:.0f} s ({failed[0] if failed else 'no error'}): is the broker up?"
        )
    return Produced(sent, started_s, time.time() - started_s, 1000 * late_s)


async def send_from_a_process(
    bootstrap: str,
    table: TransactionTable,
    rate: float,
    stop: Event,
    topic: str = TRANSACTIONS,
    encode: Encode | None = None,
) -> Produced:
    """`send_at_rate` in a process of its own: in the observer's process the sender would be late whenever it works.

    This module imports neither torch nor the stack, so that the process starts quickly.
    """
    receiver, answer = SPAWN.Pipe(duplex=False)
    sender = SPAWN.Process(target=_send, args=(answer, stop, bootstrap, table, rate, topic, encode))
    await asyncio.to_thread(sender.start)
    answer.close()  # the sender's copy is now the only one: if the sender dies, the receiver sees the end of the pipe
    try:
        result: Produced | PantherError = await asyncio.to_thread(receiver.recv)
    except EOFError:
        raise StackError("expected the sender's process to report what it sent, but it ended: see its output") from None
    finally:
        stop.set()
        await asyncio.to_thread(sender.join)
    if isinstance(result, PantherError):
        raise result
    return result


def _send(
    answer: Connection,
    stop: Event,
    bootstrap: str,
    table: TransactionTable,
    rate: float,
    topic: str,
    encode: Encode | None,
) -> None:
    """Runs in the sender's process; the answer is what was sent, or the error."""
    gc.disable()
    try:
        answer.send(send_at_rate(bootstrap, table, rate, stop.is_set, topic, encode))
    except PantherError as error:
        answer.send(error)
