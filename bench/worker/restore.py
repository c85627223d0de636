"""`panther bench restore` (users restored a second, seconds of a start) and `panther bench memory` (resident MB).

Both run a worker without a model server. Restore: a changelog with a state for each user is written to the broker, and
a worker with an empty folder restores it; then the worker is stopped, and started again over the restored folder.
Memory: the same with many partitions and merchants, followed by load, beside the process that keeps merchants.
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

from bench.worker.stage import BenchStage, running_stage
from infra.local.process import ManagedProcess
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.base.times import DAY_MS
from panther_core.data.events import Transaction
from panther_core.data.topics import MERCHANT_RISK, SCORES, changelog_of, merchants_app
from panther_core.decide.records import to_json
from panther_core.entities.merchants import advance, decode_merchants, encode_merchants, take_payments
from panther_core.kafka.reading import make_reader
from panther_core.serving_model import load_serving_model
from stream.faust_parts.producer import make_producer
from stream.merchants.history import records
from stream.tools.produce import produce

_PATIENCE_S = 900.0
_RESTORED = re.compile(r"restored (\d+) records of \d+ partitions in ([\d.]+) s")


@dataclass(frozen=True)
class StoredStates:
    """What a run begins with: a changelog with one state for each user, with `length` context events; and what is known
    of each of `merchants`."""

    users: int = 200_000
    partitions: int = 8
    length: int = 256
    seed: int = 0
    merchants: int = 0


def run_restore(folder: Path, stored: StoredStates) -> dict[str, Any]:
    """Restore into an empty folder, then a warm start over the restored folder."""
    with running_stage(folder, stored.length, stored.partitions) as stage:
        asyncio.run(_write_states(stage, stored))
        cold = _first_decision_s(stage, stored, 0)
        records, seconds = _restored(stage)
        warm = _first_decision_s(stage, stored, 1)
        return {
            "users_per_s": round(records / seconds, 1),
            "warm_start_s": warm,
            "cold_start_s": cold,
            "restore_s": seconds,
            "users": records,
            "state_bytes": stage.state_bytes,
        }


def run_memory(folder: Path, stored: StoredStates, transactions: int, samples: int = 10) -> dict[str, Any]:
    """Resident memory of a worker with all these users and merchants, and of the process that keeps merchants, sampled
    over `transactions` sent as fast as the worker takes them."""
    with running_stage(folder, stored.length, stored.partitions) as stage:
        asyncio.run(_write_states(stage, stored))
        asyncio.run(_write_merchants(stage, stored))
        asyncio.run(produce(stage.kafka, _transactions(stored, samples, 1), rate=0))
        keeper = stage.start_merchants()
        worker, part = _start(stage), transactions // samples
        try:
            _until_decided(stage, worker, 1)
            sizes, began, kept = [_memory_mb(worker)], time.monotonic(), [_memory_mb(keeper)]
            for turn in range(samples):
                asyncio.run(produce(stage.kafka, _transactions(stored, turn, part), rate=0))
                _until_decided(stage, worker, 1 + (turn + 1) * part)
                sizes.append(_memory_mb(worker))
                kept.append(_memory_mb(keeper))
                say(f"  {(turn + 1) * part} transactions: {sizes[-1]:.0f} MB, merchants' process {kept[-1]:.0f} MB")
            seconds = time.monotonic() - began
        finally:
            worker.stop()
            keeper.stop()
        return {
            "users": stored.users,
            "merchants": stored.merchants,
            "partitions": stored.partitions,
            "state_bytes": stage.state_bytes,
            "memory_mb": sizes,
            "merchants_memory_mb": kept,
            "transactions": transactions,
            "tps": round(part * samples / seconds, 1),
        }


async def _write_states(stage: BenchStage, stored: StoredStates) -> None:
    """Write one state for every user to the changelog; model outputs are noise, so that they do not compress."""
    codec = load_serving_model(Path(stage.settings.models_dir) / "1").codec
    topic, rng, chunk = changelog_of(stage.settings.app_id), np.random.default_rng(stored.seed), 5000
    async with make_producer(stage.kafka) as producer:
        for low in range(0, stored.users, chunk):
            states = codec.fresh(min(chunk, stored.users - low))
            states["cached"] = rng.standard_normal(states["cached"].shape, np.float32)
            states["ring"] = rng.integers(0, 2**63, states["ring"].shape).view(states["ring"].dtype)
            sends = [
                await producer.send(topic, value, key=_user(low + i).encode())
                for i, value in enumerate(codec.encode(states))
            ]
            await asyncio.gather(*sends)
    say(f"  {stored.users} states of {stage.state_bytes} bytes lie on {topic}")


async def _write_merchants(stage: BenchStage, stored: StoredStates) -> None:
    """Write a state of every merchant to the changelog, and a record of each to merchant.risk."""
    rng, chunk = np.random.default_rng(stored.seed), 5000
    changelog, today = (
        changelog_of(merchants_app(stage.settings.app_id), "merchants"),
        int(time.time() * 1000) // DAY_MS,
    )
    async with make_producer(stage.kafka) as producer:
        for low in range(0, stored.merchants, chunk):
            count = min(chunk, stored.merchants - low)
            states, names = decode_merchants([None] * count), [_merchant(low + i) for i in range(count)]
            advance(states, today - 1)
            days = rng.integers(today - 40, today, 4 * count)
            take_payments(states, rng.integers(0, count, len(days)), days, rng.gamma(2, 1, len(days)))
            states["n"], states["hour"] = 4, (today - 1) * 24
            risk = [to_json(record) for record in records(names, states, np.full(count, today * 24))]
            sends = []
            for name, state, record in zip(names, encode_merchants(states), risk, strict=True):
                sends.append(await producer.send(changelog, state, key=name.encode()))
                sends.append(await producer.send(MERCHANT_RISK, record, key=name.encode()))
            await asyncio.gather(*sends)
    say(f"  {stored.merchants} merchants lie on {changelog} and {MERCHANT_RISK}")


def _merchant(number: int) -> str:
    return f"m{number:08d}"


def _user(number: int) -> str:
    return f"u{number:08d}"


def _transactions(stored: StoredStates, turn: int, count: int) -> Iterator[Transaction]:
    rng, began_ms = np.random.default_rng(turn + 1), int(time.time() * 1000)
    shops = rng.integers(0, stored.merchants or 997, count).tolist()
    for i, (user, shop) in enumerate(zip(rng.integers(0, stored.users, count).tolist(), shops, strict=True)):
        yield Transaction(
            transaction_id=f"b{turn}-{i}",
            user_id=_user(user),
            merchant_id=_merchant(shop),
            merchant_category="grocery",
            amount=10.0,
            currency="EUR",
            channel="online",
            event_time=began_ms,
        )


def _start(stage: BenchStage) -> ManagedProcess:
    return stage.start("null_worker")


def _first_decision_s(stage: BenchStage, stored: StoredStates, turn: int) -> float:
    """Seconds from the start of a worker until the decision on a waiting transaction is appended."""
    asyncio.run(produce(stage.kafka, _transactions(stored, turn, 1), rate=0))
    worker, began = _start(stage), time.monotonic()
    try:
        _until_decided(stage, worker, turn + 1)
        return round(time.monotonic() - began, 2)
    finally:
        worker.stop()


def _until_decided(stage: BenchStage, worker: ManagedProcess, count: int) -> None:
    """Wait until the topic holds `count` decisions. Raises PantherError if the worker ends or takes too long."""

    async def go() -> None:
        async with make_reader(stage.kafka) as consumer:
            deadline = time.monotonic() + _PATIENCE_S
            while await stage.written(consumer, SCORES) < count:
                if time.monotonic() > deadline or not worker.alive():
                    raise PantherError(f"no {count} decisions within {_PATIENCE_S:.0f} s; log: {worker.log_path}")
                await asyncio.sleep(0.02)

    asyncio.run(go())


def _restored(stage: BenchStage) -> tuple[int, float]:
    """Records and seconds of the restore, as the worker's log states them."""
    found = _RESTORED.findall((stage.folder / "logs" / "null_worker.log").read_text())
    if not found:
        raise PantherError(f"the worker restored nothing; its log: {stage.folder / 'logs' / 'null_worker.log'}")
    return sum(int(records) for records, _ in found), sum(float(seconds) for _, seconds in found)


def _memory_mb(worker: ManagedProcess) -> float:
    return float(round(psutil.Process(worker.ref.pid).memory_info().rss / 1e6, 1))
