"""`panther bench fuzz`: damaged records by the million; how many became events, how many dead letters, and a verdict.

Each record must end as a row for the engine or as a dead letter. Most go through the worker's intake in process, and a
share through a real worker on Kafka, whose process must survive; what that worker wrote is sent back to it as inputs.
Half of the records carry the key that belongs to their user, where a user can be read, so that a record is not refused
for its key alone and reaches hashing, codes and state. Keys, ids and values are drawn from the program's own words too
(own_words.py).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.chaos.check import conserved
from bench.chaos.evidence import read_evidence
from bench.chaos.offline_run import InputRecord
from bench.chaos.own_words import own_records, own_words
from bench.chaos.stage import ChaosStage, running_stage
from bench.chaos.traffic import KeyedRecord, key_of, send, to_transactions
from bench.load import Load, label_delay_ms, long_table
from infra.local.training import train_once
from panther_core.base.console import say
from panther_core.data.events import MAX_BYTES
from panther_core.data.generator.malformed import fuzz, malformed, valid
from panther_core.data.topics import ALERTS, DEAD_LETTERS, MODELS, SCORES, TRANSACTIONS, changelog_of
from panther_core.kafka.reading import read_topic
from panther_core.serving_model import ServingModel, load_serving_model
from stream.faust_parts.producer import Outgoing
from stream.worker.intake import read_batch

_BATCH = 512  # records that intake reads at once, as in the worker
_CHUNK = 20_000  # records generated at once
_AT_ONCE = 5000  # records sent back before their outcome is awaited
_DEEP = 5000  # levels of nesting
_AT_S = 1_750_000_000.0  # Kafka timestamp of the records that go through the intake in process
Fields = dict[str, Any]
T = TypeVar("T")


def damaged_records(n: int, seed: int) -> Iterator[KeyedRecord]:
    """`n` records (key, value): most with cut or swapped bytes, some certainly malformed, some odd (see `_ODD`)."""
    rng = np.random.default_rng(seed)
    for low in range(0, n, _CHUNK):
        count = min(_CHUNK, n - low)
        wrong = [payload for _, payload in malformed(count // 20 + 1, seed + low)]
        kinds: tuple[tuple[float, Callable[[], bytes]], ...] = (
            (0.70, partial(next, iter(fuzz(count, seed + low)))),
            (0.05, partial(_one_of, wrong, rng)),
            (0.05, partial(_odd, rng)),
            (0.15, partial(_in_own_words, rng)),
            (0.05, partial(_own_record, rng)),
        )
        chosen = rng.choice(len(kinds), count, p=[chance for chance, _ in kinds]).tolist()
        draws = rng.random(count).tolist()
        for kind, draw in zip(chosen, draws, strict=True):
            payload = kinds[kind][1]()
            if draw < 0.5:
                yield key_of(payload), payload
            else:
                yield (_one_of(own_words(), rng).encode() if draw < 0.6 else b"another"), payload


_TEXTS = ("transaction_id", "user_id", "merchant_id", "merchant_category", "currency", "channel", "country", "device")


def _in_own_words(rng: np.random.Generator) -> bytes:
    """A good record in which up to three texts, an unknown field or a fact of the profile are words of the program."""
    record, words = valid(int(rng.integers(1 << 30)), rng), own_words()
    for _ in range(int(rng.integers(1, 4))):
        record[_one_of(_TEXTS, rng)] = _one_of(words, rng)
    if rng.random() < 0.3:
        record["profile"] = {_one_of(words, rng): _one_of(words, rng) for _ in range(3)}
    if rng.random() < 0.2:
        record[_one_of(words, rng)] = _one_of(words, rng)
    return json.dumps(record).encode()


def _own_record(rng: np.random.Generator) -> bytes:
    """A record that the program writes, as it is, or with the fields of a payment."""
    payload = _one_of(own_records(), rng)
    if rng.random() < 0.5:
        return payload
    return json.dumps(json.loads(payload) | valid(int(rng.integers(1 << 30)), rng)).encode()


def _odd(rng: np.random.Generator) -> bytes:
    """A record of a kind that neither cutting nor swapping bytes gives."""
    record = valid(int(rng.integers(1 << 30)), rng)
    return _one_of(_ODD, rng)(record, rng)


def _one_of(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _random_bytes(_: Fields, rng: np.random.Generator) -> bytes:
    return bytes(rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8))


def _deep(record: Fields, rng: np.random.Generator) -> bytes:
    """Nested `_DEEP` levels, in a field that is ignored or in one that is read."""
    name = _one_of(("extra", "profile", "amount"), rng)
    return json.dumps(record | {name: 0})[:-2].encode() + b"[" * _DEEP + b"]" * _DEEP + b"}"


def _near_the_limit(record: Fields, rng: np.random.Generator) -> bytes:
    """Up to 2 bytes shorter or longer than the largest record that is allowed."""
    room = MAX_BYTES - len(json.dumps(record | {"extra": ""})) + int(rng.integers(-2, 3))
    return json.dumps(record | {"extra": "x" * room}).encode()


def _any_text(record: Fields, rng: np.random.Generator) -> bytes:
    """Characters of any kind in one of the text fields."""
    name = _one_of(_TEXTS, rng)
    points = rng.integers(0, 0xD800, int(rng.integers(1, 140))).tolist()
    return json.dumps(record | {name: "".join(map(chr, points))}, ensure_ascii=bool(rng.integers(2))).encode()


def _odd_amount(record: Fields, rng: np.random.Generator) -> bytes:
    amounts = (0, -0.0, 5e-324, 1e9, 1.0000001e9, 1e308, -1, 2**53 + 1, 2**64, -(2**63), 10**300)
    return json.dumps(record | {"amount": _one_of(amounts, rng)}).encode()


def _odd_time(record: Fields, rng: np.random.Generator) -> bytes:
    times = (2**63, 2**64, -1, 946_684_800_000, 946_684_799_999, 4_102_444_800_001, "2024-02-30", "24:00", "0000")
    return json.dumps(record | {"event_time": _one_of(times, rng)}).encode()


def _large_profile(record: Fields, rng: np.random.Generator) -> bytes:
    profile = {f"p{i}": (i, 10**400, "x" * 500, -0.0)[i % 4] for i in range(int(rng.integers(1, 300)))}
    return json.dumps(record | {"profile": profile}).encode()


_ODD = (_random_bytes, _deep, _near_the_limit, _any_text, _odd_amount, _odd_time, _large_profile)


def run_fuzz(folder: Path, messages: int, through_kafka: int, seed: int) -> dict[str, Any]:
    """Fuzz the intake and then a worker; `ok` only if no record was lost or doubled and the worker never ended."""
    table = long_table(Load(150, history=0, seed=seed), 20_000)
    train_once(folder, table, f"fuzz {seed}", label_delay_ms(table), size="tiny")
    version = folder / "models" / "1"
    inside = fuzz_intake(damaged_records(messages, seed), load_serving_model(version))
    say(f"  in process: {inside}")
    out = {"ok": inside["ok"], "seed": seed, "messages": messages + through_kafka, "in_process": inside}
    if through_kafka:
        out["through_kafka"] = asyncio.run(_through_kafka(folder.resolve(), version, through_kafka, seed + 1))
        out["ok"] = inside["ok"] and out["through_kafka"]["ok"]
    return out


def fuzz_intake(records: Iterator[KeyedRecord], serving: ServingModel) -> dict[str, Any]:
    """Put every record through `read_batch`, in batches of the worker's size; `ok` if each came out exactly once."""
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
        "seconds": round(seconds, 1),
        "per_s": round(total / seconds),
    }


async def _through_kafka(folder: Path, version: Path, messages: int, seed: int) -> dict[str, Any]:
    async with running_stage(folder, workers=1, replicas=1, partitions=8) as stage:
        worker = stage.system.workers[stage.names[0]]
        first = messages // 2
        sent = await send(
            stage.system.kafka, to_transactions(damaged_records(first, seed)), 2000, lambda: False, stage.flow
        )
        await stage.wait_until_decided()
        back = await _own_outputs(stage, messages - first, seed)
        for low in range(0, len(back), _AT_ONCE):
            sent += len(await stage.store(back[low : low + _AT_ONCE]))
        await stage.wait_until_decided()
        crashes = 0 if worker.alive() else 1
        await asyncio.to_thread(stage.system.stop_workers)
        folders = [folder / name for name in stage.names]
        evidence = await read_evidence(stage.system.kafka, stage.system.settings.app_id, folders, stage.inputs)
    verdict = await asyncio.to_thread(conserved, evidence, load_serving_model(version))
    ok = verdict["ok"] and not crashes and sent == verdict["inputs"]
    return verdict | {"ok": ok, "crashes": crashes, "sent_back": len(back)}


async def _own_outputs(stage: ChaosStage, count: int, seed: int) -> list[tuple[str, Outgoing]]:
    """`count` records of the system's own topics, as inputs: their keys, values and headers, at times mixed."""
    topics = (SCORES, ALERTS, DEAD_LETTERS, MODELS, changelog_of(stage.system.settings.app_id))
    written = [record for topic in topics for record in await read_topic(stage.system.kafka, topic)]
    rng, words = np.random.default_rng(seed), own_words()
    out: list[tuple[str, Outgoing]] = []
    for _ in range(count):
        record, other = _one_of(written, rng), _one_of(written, rng)
        key = record.key if rng.random() < 0.5 else key_of(record.value or b"")
        headers = [*(record if rng.random() < 0.5 else other).headers, (_one_of(words, rng), b"%x" % seed)]
        out.append((TRANSACTIONS, (key or b"", record.value, headers)))
    return out
