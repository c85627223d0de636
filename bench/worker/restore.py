"""`panther bench restore` and `panther bench memory`: a worker and its states, without a model server.

Restore: a changelog of so many users is laid on the broker, and a worker with an empty folder brings them back; then it
is stopped, and started again over what it has. Memory: the same with many partitions, and then load.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.worker.stage import Stage, stage
from infra.local.process import ManagedProcess
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.data.events import Transaction
from panther_core.data.topics import SCORES, changelog_of
from panther_core.kafka.reading import make_reader
from panther_core.serving_model import load_serving_model
from stream.faust_parts.producer import make_producer
from stream.tools.produce import produce

_PATIENCE_S = 900.0
_RESTORED = re.compile(r"restored (\d+) records of \d+ partitions in ([\d.]+) s")


@dataclass(frozen=True)
class Past:
    """What a run begins with: users whose states are on the changelog."""

    users: int = 200_000
    partitions: int = 8
    length: int = 256
    seed: int = 0


def run_restore(folder: Path, past: Past) -> dict[str, Any]:
    """Cold restore of an empty folder, and a warm start over the restored one."""
    with stage(folder, past.length, past.partitions) as ready:
        asyncio.run(_lay_states(ready, past))
        cold = _first_decision_s(ready, past, 0)
        records, seconds = _restored(ready)
        warm = _first_decision_s(ready, past, 1)
        return {
            "users_per_s": round(records / seconds, 1),
            "warm_start_s": warm,
            "cold_start_s": cold,
            "restore_s": seconds,
            "users": records,
            "state_bytes": ready.state_bytes,
        }


def run_memory(folder: Path, past: Past, transactions: int, samples: int = 10) -> dict[str, Any]:
    """Resident memory of a worker with all these users, over `transactions` as fast as it takes them."""
    with stage(folder, past.length, past.partitions) as ready:
        asyncio.run(_lay_states(ready, past))
        asyncio.run(produce(ready.kafka, _transactions(past, samples, 1), rate=0))
        worker, part = _start(ready), transactions // samples
        try:
            _until_decided(ready, worker, 1)
            sizes, began = [_memory_mb(worker)], time.monotonic()
            for turn in range(samples):
                asyncio.run(produce(ready.kafka, _transactions(past, turn, part), rate=0))
                _until_decided(ready, worker, 1 + (turn + 1) * part)
                sizes.append(_memory_mb(worker))
                say(f"  {(turn + 1) * part} transactions: {sizes[-1]:.0f} MB")
            seconds = time.monotonic() - began
        finally:
            worker.stop()
        return {
            "users": past.users,
            "partitions": past.partitions,
            "state_bytes": ready.state_bytes,
            "memory_mb": sizes,
            "transactions": transactions,
            "tps": round(part * samples / seconds, 1),
        }


async def _lay_states(ready: Stage, past: Past) -> None:
    """A changelog with one state of every user; what a model fills is noise, so that nothing compresses."""
    codec = load_serving_model(Path(ready.settings.models_dir) / "1").codec
    topic, rng, chunk = changelog_of(ready.settings.app_id), np.random.default_rng(past.seed), 5000
    async with make_producer(ready.kafka) as producer:
        for low in range(0, past.users, chunk):
            states = codec.fresh(min(chunk, past.users - low))
            states["cached"] = rng.standard_normal(states["cached"].shape, np.float32)
            states["ring"] = rng.integers(0, 2**63, states["ring"].shape).view(states["ring"].dtype)
            sends = [
                await producer.send(topic, value, key=_user(low + i).encode())
                for i, value in enumerate(codec.encode(states))
            ]
            await asyncio.gather(*sends)
    say(f"  {past.users} states of {ready.state_bytes} bytes lie on {topic}")


def _user(number: int) -> str:
    return f"u{number:08d}"


def _transactions(past: Past, turn: int, count: int) -> Iterator[Transaction]:
    rng, began_ms = np.random.default_rng(turn + 1), int(time.time() * 1000)
    for i, user in enumerate(rng.integers(0, past.users, count).tolist()):
        yield Transaction(
            transaction_id=f"b{turn}-{i}", user_id=_user(user), merchant_id=f"m{i % 997}", merchant_category="grocery",
            amount=10.0, currency="EUR", channel="online", event_time=began_ms,
        )  # fmt: skip


def _start(ready: Stage) -> ManagedProcess:
    return ready.start("null_worker")


def _first_decision_s(ready: Stage, past: Past, turn: int) -> float:
    """Seconds from the start of a worker to the append of the answer to a transaction that waits for it."""
    asyncio.run(produce(ready.kafka, _transactions(past, turn, 1), rate=0))
    worker, began = _start(ready), time.monotonic()
    try:
        _until_decided(ready, worker, turn + 1)
        return round(time.monotonic() - began, 2)
    finally:
        worker.stop()


def _until_decided(ready: Stage, worker: ManagedProcess, count: int) -> None:
    """Wait until so many decisions have been written in all."""

    async def go() -> None:
        async with make_reader(ready.kafka) as consumer:
            deadline = time.monotonic() + _PATIENCE_S
            while await ready.written(consumer, SCORES) < count:
                if time.monotonic() > deadline or not worker.alive():
                    raise PantherError(f"no {count} decisions within {_PATIENCE_S:.0f} s; log: {worker.log_path}")
                await asyncio.sleep(0.02)

    asyncio.run(go())


def _restored(ready: Stage) -> tuple[int, float]:
    """Records and seconds of the restore, by the worker's own log."""
    found = _RESTORED.findall((ready.folder / "logs" / "null_worker.log").read_text())
    if not found:
        raise PantherError(f"the worker restored nothing; its log: {ready.folder / 'logs' / 'null_worker.log'}")
    return sum(int(records) for records, _ in found), sum(float(seconds) for _, seconds in found)


def _memory_mb(worker: ManagedProcess) -> float:
    return float(round(psutil.Process(worker.ref.pid).memory_info().rss / 1e6, 1))
