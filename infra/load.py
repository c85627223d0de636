"""Open-loop load on a running system: transactions are offered at a fixed rate, however the system keeps up."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from infra.system import System
from panther_core.table import TransactionTable
from stream.ledger import LedgerReader
from stream.produce import produce


@dataclass(frozen=True)
class Offered:
    """What was offered: when each transaction was due (epoch ms), and how far the system was behind at the end."""

    due_ms: dict[str, float]
    lag_end: int
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
    gc.disable()  # what is noted here only grows: the collector would make the sender late, and find nothing
    ids, decided, heard_s = table.transaction_id.tolist(), reader.ledger.decisions, time.time()
    lag_end, sent = None, len(ids)
    async with asyncio.TaskGroup() as tasks:
        change = tasks.create_task(meanwhile) if meanwhile is not None else None
        stop = None if change is None else change.done
        sender = tasks.create_task(produce(system.kafka, table.rows(), rate=rate, stop=stop))
        while not sender.done() or not all(t in decided for t in ids[:sent]):
            if await reader.poll():
                heard_s = time.time()
            system.check_workers()
            if sender.done() and lag_end is None:
                sent = sender.result().count
                lag_end = sum(t not in decided for t in ids[:sent])
            if time.time() > heard_s + 60:
                break
    produced = sender.result()
    due = {t: (produced.started_s + i / rate) * 1000 for i, t in enumerate(ids[: produced.count])}
    return Offered(due, lag_end or 0, round(produced.late_ms, 1))
