"""Labels as case managers and chargeback imports send them, and what the trainer learns from the log."""

from __future__ import annotations

import json
import time
from typing import Any

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, Fields, Sending, sending
from panther_core.data.table import TransactionTable
from panther_core.data.topics import LABELS
from stream.faust_parts.producer import make_producer
from trainer.rollout.kafka_log import read_log


async def bad_labels(stage: CaseStage, seen: Seen) -> None:
    """Labels that cannot be read are skipped; seconds are no time; dead-lettered payments are not learnt from."""
    good = [stage.payment(f"label-{i}", "labelled") for i in range(5)]
    two = [stage.payment("label-shared", user) for user in ("ann", "ben")]
    foreign = Sending(b"somebody else", json.dumps(stage.payment("label-foreign")).encode())
    places = await stage.send([*map(sending, [*good, *two]), foreign])
    await stage.answers(places)
    now_ms = int(time.time() * 1000)
    ids = [payment["transaction_id"] for payment in good]
    await _send(
        stage,
        _label(good[0], 1, good[0]["event_time"]),
        _label(good[1], True, "2025-01-01T10:00:00Z"),
        _label(good[2], "1", now_ms),
        b"not json at all",
        _label(good[3], 1, now_ms // 1000),
        None,
        b"[]",
        _label(good[4], 1, good[4]["event_time"] - 1000),
        _label(good[4], 0, good[4]["event_time"]),
    )
    table = await _read(stage, seen)
    if table is None:
        return
    learnt = [_labels(table, transaction) for transaction in ids]
    seen.that(learnt[0] == [1], f"a good label: {learnt[0]}")
    seen.that(learnt[1] == learnt[2] == [-1], f"of wrong types: {learnt[1]}, {learnt[2]}")
    seen.that(learnt[3] == [-1], f"in seconds: {learnt[3]}")
    seen.that(learnt[4] == [0], f"taken back: {learnt[4]}")
    shared = len(_labels(table, two[0]["transaction_id"]))
    seen.that(shared == 2, f"one id by two users: {shared} rows")
    dead = len(_labels(table, f"{stage.run}-label-foreign"))
    seen.that(dead == 0, f"a payment with the wrong key: {dead} rows")


async def frauds_only(stage: CaseStage, seen: Seen) -> None:
    """Chargebacks alone, one of them withdrawn: the others stay unknown, the newest word on a payment counts."""
    payments = [stage.payment(f"bank-{i}", f"bank-{i % 3}") for i in range(9)]
    await stage.pay(*payments)
    at_ms, ids = payments[0]["event_time"], [payment["transaction_id"] for payment in payments]
    sent = [_label(payment, 1, at_ms) for payment in payments[:3]]
    await _send(stage, *sent, _label(payments[2], 0, at_ms))
    table = await _read(stage, seen)
    if table is not None:
        learnt = [_labels(table, transaction) for transaction in ids]
        seen.that(learnt == [[1], [1], [0], *[[-1]] * 6], f"labels {learnt}")


def _label(payment: Fields, label: Any, label_time: Any) -> bytes:
    ids = {name: payment[name] for name in ("transaction_id", "user_id")}
    return json.dumps(ids | {"label": label, "label_time": label_time, "source": "chargeback"}).encode()


async def _send(stage: CaseStage, *values: bytes | None) -> None:
    async with make_producer(stage.kafka) as producer:
        for value in values:
            await producer.send_and_wait(LABELS, value, key=b"u")


async def _read(stage: CaseStage, seen: Seen) -> TransactionTable | None:
    try:
        table = await read_log(stage.kafka, stage.settings)
    except Exception as error:  # a case's outcome: every refresh fails from now on
        seen.that(False, f"the log cannot be read: {type(error).__name__}: {error}")
        return None
    seen.that(True, f"{len(table)} transactions read")
    return table


def _labels(table: TransactionTable, transaction: str) -> list[int]:
    return [int(label) for label in table.label[table.transaction_id == transaction]]
