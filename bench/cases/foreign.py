"""Payments as Kafka Connect, Debezium, CloudEvents and hand-made producers send them; a whole producer of garbage."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, Fields, Sending, sending
from bench.outsiders import garbage

_FLOOD = 3000
_LOUD = r"dead.letter"


async def envelopes_nulls_and_tombstones(stage: CaseStage, seen: Seen) -> None:
    """Each record has one outcome; null where "not given" is meant is not given."""
    key = f"{stage.run}-u".encode()
    pay = stage.payment
    envelope = {"before": None, "after": pay("debezium"), "op": "c"}
    connect_key = json.dumps({"schema": {"type": "struct"}, "payload": {"user_id": f"{stage.run}-u"}}).encode()
    refused: dict[str, tuple[bytes, bytes | None, str]] = {
        "Connect envelope": (connect_key, _json({"schema": {}, "payload": envelope}), "invalid_field"),
        "Debezium envelope": (key, _json(envelope), "invalid_field"),
        "CloudEvents": (key, _json({"specversion": "1.0", "data": pay("cloud")}), "invalid_field"),
        "seconds with a fraction": (key, _json(pay("fraction", event_time=1735725600.123)), "invalid_field"),
        "amount null": (key, _json(pay("amount", amount=None)), "invalid_field"),
        "key in JSON quotes": (b'"' + key + b'"', _json(pay("quoted")), "wrong_key"),
        "tombstone": (key, None, "empty"),
        "empty value": (key, b"", "empty"),
    }
    twice = _json(pay("twice"))[:-1] + b', "amount": 1250.0}'
    decided = {
        "category, channel, currency null": _json(
            pay("nulls", merchant_category=None, channel=None, currency=None, country=None, device=None)
        ),
        "profile with null": _json(pay("profile", profile={"age": None, "job": "office"})),
        "profile null": _json(pay("no-profile", profile=None)),
        "amount twice": twice,
    }
    records = [Sending(own_key, value) for own_key, value, _ in refused.values()]
    records += [Sending(key, value) for value in decided.values()]
    answers = await stage.answers(await stage.send(records))
    for (name, (_, _, code)), answer in zip(refused.items(), answers, strict=False):
        seen.refused([answer], code, name)
    for name, answer in zip(decided, answers[len(refused) :], strict=True):
        seen.decided([answer], name)


async def a_producer_of_garbage(stage: CaseStage, seen: Seen) -> None:
    """Thousands of messages of another system at once, beside good ones: these are decided, and somebody is told."""
    since = len(stage.log())
    good = [stage.payment(f"beside-{i}", f"beside-{i % 10}") for i in range(60)]
    bad = [Sending(b"acct-d-%d" % (i % 7), garbage(i)) for i in range(_FLOOD)]
    _, places = await asyncio.gather(stage.send(bad), _one_by_one(stage, good))
    answers = await stage.answers(places, patience_s=60)
    seen.decided(answers, f"beside {_FLOOD} bad ones")
    latency_ms = [decision.latency_ms for answer in answers for decision in answer.decisions]
    if latency_ms:
        p50, p99 = np.percentile(latency_ms, [50, 99])
        seen.that(True, f"latency p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    lag = await stage.wait_lag(60)
    seen.that(lag == 0, f"lag {lag}")
    lines = stage.lines(_LOUD, since)
    seen.that(0 < len(lines) <= 20, f"{len(lines)} lines say it: {(lines or [''])[0][:160]}")


async def _one_by_one(stage: CaseStage, payments: list[Fields]) -> list[tuple[int, int]]:
    places = []
    for payment in payments:
        places += await stage.send([sending(payment | {"event_time": int(time.time() * 1000)})])
        await asyncio.sleep(0.05)
    return places


def _json(value: Fields) -> bytes:
    return json.dumps(value).encode()
