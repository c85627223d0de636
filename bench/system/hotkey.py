"""`panther bench hotkey`: what one user, one merchant or one producer of garbage costs all others.

Others' transactions come at a steady rate, open loop, from many users. Beside them comes one key at a rate of its own,
as of a bot, a test account or an aggregate id; then one merchant whom many users pay at once; then messages of another
system, each of which is a dead letter. A latency runs from when a transaction was due to the append of its decision.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.load import Load
from bench.system.e2e import running
from bench.system.offered import Offered, offer
from bench.system.sender import SPAWN, send_from_a_process
from infra.local.system import System
from panther_core.base.console import say
from panther_core.data.events import Transaction
from panther_core.data.table import TransactionTable, Words
from stream.tools.ledger import Ledger, LedgerReader

#: (what is hot, its transactions a second)
ROWS: tuple[tuple[str, float], ...] = (
    *(("user", tps) for tps in (0, 50, 300, 1000)),
    ("nobody", 1000),  # as many more, of all users and merchants: what the load alone costs
    ("merchant", 1000),
    ("garbage", 1000),
)
_WARM_S = 30.0  # of others alone before the first row
_SETTLE_S = 3.0  # the start of each row, not counted
_REST_S = 60.0  # after a row until the hot key's own backlog is decided, at most
_OTHERS_TPS = 500.0
_SOON_MS = 2000.0


def run_hotkey(folder: Path, users: int, seconds: float, others_tps: float = _OTHERS_TPS) -> dict[str, Any]:
    """Measure every row; `rows` as docs/benchmarks names them."""
    load = Load(users=users, history=64)
    needed = int(_WARM_S * others_tps) + sum(int(seconds * (others_tps + tps)) for _, tps in ROWS)
    with running(folder, load, needed) as (system, live):
        return {"rows": asyncio.run(_rows(system, live, seconds, others_tps)), "users": users, "seconds": seconds}


async def _rows(system: System, live: TransactionTable, seconds: float, others_tps: float) -> list[dict[str, Any]]:
    rows, low = [], int(_WARM_S * others_tps)
    async with LedgerReader(system.kafka) as reader:
        await offer(system, reader, live.take(slice(0, low)), others_tps)  # caches fill, batch sizes settle
    for what, tps in ROWS:
        others = live.take(slice(low, low := low + int(seconds * others_tps)))
        hot = live.take(slice(low, low := low + int(seconds * tps)))
        say(f"  {what} at {tps:.0f}/s beside {others_tps:.0f}/s of others")
        rows.append({"what": what} | await _row(system, others, others_tps, hot_of(hot, what), tps, what))
        say(f"    {rows[-1]}")
    return rows


async def _row(
    system: System, others: TransactionTable, others_tps: float, hot: TransactionTable, tps: float, what: str
) -> dict[str, Any]:
    async with LedgerReader(system.kafka) as reader:
        async with asyncio.TaskGroup() as tasks:
            if len(hot):
                tasks.create_task(_sendhot_of(system, hot, tps, what))
            offered = await offer(system, reader, others, others_tps)
        hot_decided = await _rest(reader, set(hot.transaction_id.tolist()), what)
        return _figures(offered, reader.ledger, others_tps, tps) | {"hot_decided": hot_decided}


def hot_of(table: TransactionTable, what: str) -> TransactionTable:
    """The transactions of one user or one merchant; others stay as they are, and the sender of garbage spoils them."""
    one = Words(np.zeros(len(table), np.int32), (f"hot-{what}",))
    if what == "user":
        return replace(table, user=one, profile={})
    return replace(table, merchant=one) if what == "merchant" else table


async def _sendhot_of(system: System, hot: TransactionTable, tps: float, what: str) -> None:
    encode: Callable[[Transaction], bytes] | None = as_garbage if what == "garbage" else None
    await send_from_a_process(system.kafka.bootstrap_servers, hot, tps, SPAWN.Event(), encode=encode)


def as_garbage(transaction: Transaction) -> bytes:
    """A message of another system in place of a payment."""
    return json.dumps({"TxTp": "pacs.008.001.10", "MsgId": transaction.transaction_id}).encode()


async def _rest(reader: LedgerReader, hot: Sequence[str] | set[str], what: str) -> float | None:
    """Wait until the hot key's own transactions have an outcome, so that the next row begins with none waiting.

    Returns the share of them that was decided; None where there are none to decide.
    """
    if not hot:
        return None
    ledger, end_s = reader.ledger, asyncio.get_running_loop().time() + _REST_S

    def done() -> int:
        return ledger.dead.total() if what == "garbage" else sum(t in ledger.decisions for t in hot)

    while done() < len(hot) and asyncio.get_running_loop().time() < end_s:
        await reader.poll(0.5)
    return None if what == "garbage" else round(done() / len(hot), 4)


def _figures(offered: Offered, ledger: Ledger, others_tps: float, tps: float) -> dict[str, Any]:
    """Latency, throughput and share decided of the others' transactions, from `_SETTLE_S` after the row's start."""
    due = offered.between(min(offered.due_ms.values()) + 1000 * _SETTLE_S, np.inf)
    waited = np.array([ledger.appended_ms[t] - at for t, at in due.items() if t in ledger.appended_ms])
    took_s = (max([ledger.appended_ms.get(t, 0) for t in due]) - min(due.values())) / 1000
    latency = ledger.latency_ms(due)
    return {
        "hot_tps": tps,
        "others_offered_tps": others_tps,
        "others_tps": round(len(waited) / took_s, 1) if len(waited) else 0.0,
        "others_p50_ms": latency["p50"],
        "others_p99_ms": latency["p99"],
        "others_decided": round(len(waited) / len(due), 4),
        "others_within_2_s": round(float((waited < _SOON_MS).sum()) / len(due), 4),
        "contradicted": len(ledger.contradicted),
        "dead_letters": ledger.dead.total(),
        "degraded": dict(ledger.degraded),
    }
