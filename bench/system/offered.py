"""Open-loop load on a running system: transactions are offered at a fixed rate, however the system keeps up."""

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
from stream.tools.ledger import LedgerReader
from stream.tools.produce import Produced

_SPAWN = multiprocessing.get_context("spawn")
_OBSERVE_S = 1.0  # latencies are the broker's: looking more often only takes time from the system


@dataclass(frozen=True)
class Offered:
    """What was offered: when each transaction was due (epoch ms), and how late the sender was at worst."""

    due_ms: dict[str, float]
    sender_late_ms: float

    def between(self, begin_ms: float, end_ms: float) -> dict[str, float]:
        """Due times within a stretch."""
        return {t: due for t, due in self.due_ms.items() if begin_ms <= due < end_ms}


async def offer(
    system: System,
    reader: LedgerReader,
    table: TransactionTable,
    rate: float,
    meanwhile: Coroutine[Any, Any, None] | None = None,
) -> Offered:
    """Send `table` at `rate` a second, and read decisions until all are there (or none came for a minute).

    `meanwhile` is done to the system under the load: its end ends the load, and so does an error in it.
    """
    stop = _SPAWN.Event()
    gc.disable()  # what is noted here only grows: the collector would make the sender late, and find nothing
    ids, decided, heard_s = table.transaction_id.tolist(), reader.ledger.decisions, time.time()
    sent = len(ids)
    async with asyncio.TaskGroup() as tasks:
        sender = tasks.create_task(_send_from_a_process(system.kafka.bootstrap_servers, table, rate, stop))
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


async def _send_from_a_process(bootstrap: str, table: TransactionTable, rate: float, stop: Event) -> Produced:
    """`send_at_rate` in a process of its own: in the observer's process the sender would be late whenever it works."""
    receiver, answer = _SPAWN.Pipe(duplex=False)
    sender = _SPAWN.Process(target=_send, args=(answer, stop, bootstrap, table, rate))
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


def _send(answer: Connection, stop: Event, bootstrap: str, table: TransactionTable, rate: float) -> None:
    """Runs in the sender's process; the answer is what was sent, or the error."""
    gc.disable()
    try:
        answer.send(send_at_rate(bootstrap, table, rate, stop.is_set))
    except PantherError as error:
        answer.send(error)
