"""Open-loop load of `panther bench e2e`, `swap` and `outage`: a fixed rate, whether or not the system keeps up."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

from bench.system.sender import send_at_rate
from infra.local.errors import StackError
from infra.local.system import System
from panther_core.base.errors import PantherError
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from stream.tools.ledger import LedgerReader
from stream.tools.produce import Produced

SPAWN = multiprocessing.get_context("spawn")
_OBSERVE_S = 1.0  # latencies come from the broker's timestamps, so reading more often would only cost the system time


@dataclass(frozen=True)
class Offered:
    """What was offered: when each transaction was due (epoch ms), and how late the sender was at worst."""

    due_ms: dict[str, float]
    sender_late_ms: float

    def between(self, begin_ms: float, end_ms: float) -> dict[str, float]:
        """Due times from `begin_ms` on and before `end_ms`."""
        return {t: due for t, due in self.due_ms.items() if begin_ms <= due < end_ms}


async def offer(
    system: System,
    reader: LedgerReader,
    table: TransactionTable,
    rate: float,
    meanwhile: Coroutine[Any, Any, None] | None = None,
) -> Offered:
    """Send `table` at `rate` a second, and read decisions until all are there or none has come for a minute.

    `meanwhile` runs under the load, to do something to the system; when it ends or fails, the load ends.
    """
    stop = SPAWN.Event()
    gc.disable()  # the notes here only grow: the garbage collector would cost time and free nothing
    ids, decided, heard_s = table.transaction_id.tolist(), reader.ledger.decisions, time.time()
    sent = len(ids)
    async with asyncio.TaskGroup() as tasks:
        sender = tasks.create_task(send_from_a_process(system.kafka.bootstrap_servers, table, rate, stop))
        if meanwhile is not None:
            tasks.create_task(meanwhile).add_done_callback(lambda _: stop.set())
        while not sender.done() or not all(t in decided for t in ids[:sent]):
            if await reader.poll(_OBSERVE_S):
                heard_s = time.time()
            system.check_workers()
            if sender.done():
                sent = sender.result().count
            if time.time() > heard_s + 60:
                break
    produced = sender.result()
    due = {t: (produced.started_s + i / rate) * 1000 for i, t in enumerate(ids[: produced.count])}
    return Offered(due, round(produced.late_ms, 1))


async def send_from_a_process(
    bootstrap: str, table: TransactionTable, rate: float, stop: Event, topic: str = TRANSACTIONS
) -> Produced:
    """`send_at_rate` in a process of its own: in the observer's process the sender would be late whenever it works."""
    receiver, answer = SPAWN.Pipe(duplex=False)
    sender = SPAWN.Process(target=_send, args=(answer, stop, bootstrap, table, rate, topic))
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


def _send(answer: Connection, stop: Event, bootstrap: str, table: TransactionTable, rate: float, topic: str) -> None:
    """Runs in the sender's process; the answer is what was sent, or the error."""
    gc.disable()
    try:
        answer.send(send_at_rate(bootstrap, table, rate, stop.is_set, topic))
    except PantherError as error:
        answer.send(error)
