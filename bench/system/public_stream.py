"""`panther bench stream`: public data through the whole path, measured against its labels.

Gives fraud metrics, alert metrics and latencies of a model that was trained on an earlier window of the same data.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.training import train_once
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.formats import read_table
from panther_core.data.table import TransactionTable
from panther_core.evaluation import alert_metrics, fraud_metrics
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce

_PATIENCE_S = 300.0


def run_stream(
    folder: Path, data: Path, format: str, train_until: str, transactions: int, rate: float, label_delay_days: float
) -> dict[str, Any]:
    """Train on the days before `train_until`, then stream the next `transactions` through Kafka and Triton."""
    until_ms = int(datetime.fromisoformat(train_until).replace(tzinfo=UTC).timestamp() * 1000)
    table = read_table(format, data)
    split = int(np.searchsorted(table.time_ms, until_ms))
    history, live = table.take(slice(0, split)), table.take(slice(split, split + transactions))
    if not len(history) or len(live) < transactions:
        raise BadInput(
            f"expected transactions before {train_until} and {transactions} from then on in {data}, got {len(history)} "
            f"and {len(live)}: choose another --train-until or fewer --transactions"
        )
    train_once(folder, history, f"{format} {len(table)} {train_until}", round(label_delay_days * DAY_MS), profile=None)
    with System(folder, LocalStack.on_free_ports(folder / "stack"), fresh_app_id("panther-stream")) as system:
        system.seed(history, system.deploy(1))
        system.start_worker()
        started = time.time()
        ledger = asyncio.run(_stream(system, live, rate))
        seconds = time.time() - started
    return _measure(live, ledger) | {"trained_on": len(history), "tps": round(len(live) / seconds, 1)}


async def _stream(system: System, live: TransactionTable, rate: float) -> Ledger:
    async with LedgerReader(system.kafka) as reader:
        sender = asyncio.create_task(produce(system.kafka, live.rows(), rate))
        deadline = time.time() + len(live) / rate + _PATIENCE_S
        while len(reader.ledger.decisions) < len(live) and time.time() < deadline:
            await reader.poll()
        await sender
        return reader.ledger


def _measure(live: TransactionTable, ledger: Ledger) -> dict[str, Any]:
    found = [ledger.decisions.get(t) for t in live.transaction_id.tolist()]
    there = np.array([d is not None for d in found])
    decided = [d for d in found if d is not None]
    label = live.label[there]
    out: dict[str, Any] = {
        "transactions": len(live),
        "decisions": len(decided),
        "missing": int((~there).sum()),
        "contradicted": len(ledger.contradicted),
        "dead_letters": dict(ledger.dead),
        "degraded": dict(ledger.degraded),
        "frauds": int(label.sum()),
        "decision_ms": ledger.latency_ms(),
    }
    if 0 < label.sum() < len(label):
        out |= fraud_metrics(np.array([d.score for d in decided]), label)
        out |= alert_metrics(np.array([d.alert for d in decided]), label)
    return out
