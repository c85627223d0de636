"""One version of a shadow replay, in the process that carries the shadow's topic prefix: `python -m`, JSON in and out.

The process announces the version on the shadow's topics, starts the shadow's worker, sends the log in file order at N
times event time, and writes the decisions with the columns of every replay. One producer sends everything, a user's
transactions go to one partition, and retries do not reorder. So every user's events are decided in event-time order at
any speed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq

from offline.replay.columns import decision_columns
from offline.replay.replayer import Replayed
from offline.replay.request import ReplayRequest
from panther_core.artifact import load_manifest
from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import DECISION
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.data.topics import PREFIX
from panther_core.decide.records import alert_id, row_of
from panther_core.state.features import WIDTH
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce
from trainer.rollout.announce import announce

_PATIENCE_S = 90.0  # without a decision


class VersionRequest(msgspec.Struct):
    """What `offline.shadow.all_versions` asks this process to do, as JSON on its command line."""

    path: str
    format: str
    period: tuple[str | None, str | None]
    limit: int | None
    speed: float
    label_delay_ms: int
    artifact: str
    folder: str


@dataclass(frozen=True)
class Sent:
    """The transactions that were streamed, and the decisions on them."""

    table: TransactionTable
    ledger: Ledger
    sender_late_ms: float


def main() -> None:
    """Run the VersionRequest in the first argument; print one JSON object of figures."""
    if not PREFIX:
        raise PantherError("expected PANTHER_TOPIC_PREFIX: a shadow must not write to the live topics")
    wanted = msgspec.json.decode(sys.argv[1], type=VersionRequest)
    manifest = load_manifest(Path(wanted.artifact))
    version = manifest.version
    asyncio.run(announce(KafkaSettings(), manifest, wanted.artifact))
    started = time.perf_counter()
    with _worker(Path(wanted.folder) / f"worker-{version}") as worker:
        sent = asyncio.run(_stream(KafkaSettings(), wanted, worker))
    seconds = time.perf_counter() - started
    table, ledger = sent.table, sent.ledger
    decided = np.array([t in ledger.decisions for t in table.transaction_id.tolist()])
    decision = np.zeros(len(table), DECISION)
    for row in np.flatnonzero(decided).tolist():
        transaction = str(table.transaction_id[row])
        decision[row] = row_of(
            ledger.decisions[transaction],
            ledger.alerts.get(alert_id(ledger.decisions[transaction].user_id, transaction)),
        )
    replayed = Replayed(decision, decided, np.zeros((len(table), WIDTH), np.float32))
    out = decision_columns(table, replayed, wanted.label_delay_ms)
    pq.write_table(out, Path(wanted.folder) / f"decisions-v{version}.parquet", compression="zstd")
    result = {
        "model": version,
        "transactions": len(table),
        "missing": int((~decided).sum()),
        "contradicted": len(ledger.contradicted),
        "degraded": dict(ledger.degraded),
        "seconds": round(seconds, 2),
        "sender_late_ms": round(sent.sender_late_ms, 1),
        "decision_ms": ledger.latency_ms(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


@contextmanager
def _worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(parents=True)
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "worker", "--data-dir", str(folder)]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _stream(kafka: KafkaSettings, wanted: VersionRequest, worker: subprocess.Popen[bytes]) -> Sent:
    request = ReplayRequest(
        Path(wanted.path), wanted.format, (), Path(), *wanted.period, limit=wanted.limit
    )  # its chunks are checked for event-time order, as in a replay in process
    table = concat(list(request.chunks()))
    after_s = (table.time_ms - table.time_ms[0]) / 1000 / wanted.speed if wanted.speed else None
    async with LedgerReader(kafka, from_beginning=True) as reader:
        decided, heard_s = reader.ledger.decisions, time.monotonic()
        distinct = len(np.unique(table.transaction_id))
        due = None if after_s is None else after_s.tolist()
        sender = asyncio.create_task(produce(kafka, table.rows(), 0, after_s=due))
        while not sender.done() or len(decided) < distinct:
            if await reader.poll() or not sender.done():
                heard_s = time.monotonic()
            if worker.poll() is not None:
                raise PantherError(f"the shadow's worker ended with {worker.returncode} under load")
            if time.monotonic() > heard_s + _PATIENCE_S:
                break
        return Sent(table, reader.ledger, (await sender).late_ms)


if __name__ == "__main__":
    main()
