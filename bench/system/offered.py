"""Open-loop load of `panther bench e2e`, `swap` and `outage`: a fixed rate, whether or not the system keeps up."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from bench.system.sender import SPAWN, send_from_a_process
from infra.local.system import System
from panther_core.data.table import TransactionTable
from stream.tools.ledger import LedgerReader

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
