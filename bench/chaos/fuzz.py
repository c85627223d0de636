"""`panther bench fuzz`: damaged records by the million; each must end as a row for the engine or as a dead letter.

Through the worker's intake in process, and a share of them through a real worker on Kafka, which must be the same
process at the end. Half of the records have the key that their user asks for, where one can be read at all, so that
what only a wrong key would stop goes on to hashing, codes and state.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.chaos.check import conserved
from bench.chaos.evidence import read_evidence
from bench.chaos.offline_run import InputRecord
from bench.chaos.stage import staged
from bench.chaos.traffic import Record, key_of, send
from bench.load import Load, label_delay_ms, long_table
from infra.local.training import train_once
from panther_core.base.console import say
from panther_core.data.events import MAX_BYTES
from panther_core.data.generator.malformed import fuzz, malformed, valid
from panther_core.serving_model import ServingModel, load_serving_model
from stream.worker.intake import read_batch

_BATCH = 512
_CHUNK = 20_000
_DEEP = 5000  # levels of nesting
_AT_S = 1_750_000_000.0


def strange(n: int, seed: int) -> Iterator[Record]:
    """`n` records (key, value): damaged, malformed for certain, random bytes, deep, huge, odd text, odd numbers."""
    rng = np.random.default_rng(seed)
    for low in range(0, n, _CHUNK):
        count = min(_CHUNK, n - low)
        some = fuzz(count, seed + low)
        wrong = [payload for _, payload in malformed(count // 20 + 1, seed + low)]
        draws = rng.random(count)
        for payload, draw in zip(some, draws.tolist(), strict=True):
            if draw < 0.05:
                payload = wrong[int(draw * 20 * len(wrong))]
            elif draw < 0.10:
                payload = _odd(rng)
            yield (key_of(payload) if draw * 1000 % 1 < 0.5 else b"another"), payload


def _odd(rng: np.random.Generator) -> bytes:
    """One record of a kind that neither cutting nor swapping bytes gives."""
    record, kind = valid(int(rng.integers(1 << 30)), rng), int(rng.integers(7))
    if kind == 0:
        return bytes(rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8))
    if kind == 1:  # nested deep, where it is ignored and where it is not
        name = ("extra", "profile", "amount")[int(rng.integers(3))]
        return json.dumps(record | {name: 0})[:-2].encode() + b"[" * _DEEP + b"]" * _DEEP + b"}"
    if kind == 2:  # just within and just beyond what is allowed
        room = MAX_BYTES - len(json.dumps(record | {"extra": ""})) + int(rng.integers(-2, 3))
        return json.dumps(record | {"extra": "x" * room}).encode()
    if kind == 3:  # text of any kind, in every field of text
        names = ("transaction_id", "user_id", "merchant_id", "merchant_category", "currency", "channel", "device")
        name = names[int(rng.integers(len(names)))]
        points = rng.integers(0, 0xD800, int(rng.integers(1, 140))).tolist()
        return json.dumps(record | {name: "".join(map(chr, points))}, ensure_ascii=bool(rng.integers(2))).encode()
    if kind == 4:
        numbers = (0, -0.0, 5e-324, 1e9, 1.0000001e9, 1e308, -1, 2**53 + 1, 2**64, -(2**63), 10**300)
        return json.dumps(record | {"amount": numbers[int(rng.integers(len(numbers)))]}).encode()
    if kind == 5:
        times = (2**63, 2**64, -1, 946_684_800_000, 946_684_799_999, 4_102_444_800_001, "2024-02-30", "24:00", "0000")
        return json.dumps(record | {"event_time": times[int(rng.integers(len(times)))]}).encode()
    profile = {f"p{i}": (i, 10**400, "x" * 500, -0.0)[i % 4] for i in range(int(rng.integers(1, 300)))}
    return json.dumps(record | {"profile": profile}).encode()


def run_fuzz(folder: Path, messages: int, through_kafka: int, seed: int) -> dict[str, Any]:
    """Both parts; `ok` only if no record was lost or doubled, nothing raised, and the worker never ended."""
    table = long_table(Load(150, history=0, seed=seed), 20_000)
    train_once(folder, table, f"fuzz {seed}", label_delay_ms(table), size="tiny")
    version = folder / "models" / "1"
    inside = fuzz_intake(strange(messages, seed), load_serving_model(version))
    say(f"  in process: {inside}")
    out = {"ok": inside["ok"], "seed": seed, "in_process": inside}
    if through_kafka:
        out["through_kafka"] = asyncio.run(_through_kafka(folder.resolve(), version, through_kafka, seed + 1))
        out["ok"] = inside["ok"] and out["through_kafka"]["ok"]
    return out


def fuzz_intake(records: Iterator[Record], serving: ServingModel) -> dict[str, Any]:
    """Every record through `read_batch`, in the worker's batches: counts, and whether each came out once."""
    began, codes, rows, total, wrong, batch = time.perf_counter(), Counter[str](), 0, 0, 0, list[InputRecord]()

    def take() -> None:
        nonlocal rows, wrong
        intake = read_batch(list(batch), serving.schema, serving.risk)
        out = sorted([r.offset for r in intake.records] + [d.record.offset for d in intake.dead])
        wrong += out != [record.offset for record in batch] or len(intake.events) != len(intake.records)
        rows += len(intake.events)
        codes.update(dead.code for dead in intake.dead)
        batch.clear()

    for total, (key, value) in enumerate(records, 1):
        batch.append(InputRecord(key, value, total, 0, _AT_S))
        if len(batch) == _BATCH:
            take()
    take()
    seconds = time.perf_counter() - began
    conserved = not wrong and rows + codes.total() == total
    return {
        "ok": conserved,
        "messages": total,
        "events": rows,
        "dead_letters": codes.total(),
        "codes": dict(codes.most_common()),
        "per_s": round(total / seconds),
    }


async def _through_kafka(folder: Path, version: Path, messages: int, seed: int) -> dict[str, Any]:
    async with staged(folder, workers=1, replicas=1, partitions=8) as stage:
        (worker,) = stage.system.workers.values()
        sent = await send(stage.system.kafka, strange(messages, seed), 2000, lambda: False)
        await stage.quiet()
        crashes = 0 if worker.alive() else 1
        await asyncio.to_thread(stage.system.stop_workers)
        folders = [folder / name for name in stage.names]
        evidence = await read_evidence(stage.system.kafka, stage.system.settings.app_id, folders)
    verdict = await asyncio.to_thread(conserved, evidence, load_serving_model(version))
    return verdict | {"ok": verdict["ok"] and not crashes and sent == verdict["inputs"], "crashes": crashes}
