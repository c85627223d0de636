"""The offline run of `panther chaos`: the worker's code decides the records of the `transactions` topic in process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.chaos.evidence import Records
from bench.chaos.inputs import EPOCH
from offline.replay.replayer import Replayed, Replayer
from offline.replay.sellers import sellers
from panther_core.data.decision import values_of
from panther_core.data.table_rows import as_arrived
from panther_core.decide.records import alert_id
from panther_core.kafka.answers import Position
from panther_core.model.serving import PantherModel
from panther_core.serving_model import ServingModel
from stream.worker.intake import Intake, Record, read_batch


@dataclass
class InputRecord:
    """A consumed record as intake expects it from Faust, with its timestamp in seconds."""

    key: bytes | None
    value: bytes | None
    offset: int
    partition: int
    timestamp: float


@dataclass(frozen=True)
class OfflineRun:
    """Valid records in the order of their offsets, what was decided on them, and the states in the end."""

    intake: Intake
    replayed: Replayed
    states: dict[int, np.void]  # by user hash, `last_offset` as on the topic
    cached: dict[int, Any]  # model outputs of each user's window, by user hash
    first: list[int]  # of each row, the row whose decision it gets: its own, or the row that it repeats

    def position(self, row: int) -> Position:
        """Partition and offset of a row."""
        record = self.intake.records[row]
        return record.partition, record.offset

    def alert_id(self, row: int) -> str:
        """Id of the alert that a row's decision has if it is above the threshold."""
        transaction, reused = self.intake.transactions[row], values_of(self.replayed.decision[row])["id_reused"]
        content = int(self.intake.events["content"][row]) if reused else None
        return alert_id(transaction.user_id, transaction.transaction_id, content)


def as_consumed(inputs: Records) -> list[Record]:
    """Records of aiokafka as the worker's intake gets them from Faust."""
    return [InputRecord(r.key, r.value, r.offset, r.partition, r.timestamp / 1000) for r in inputs]


def run_offline(
    inputs: Records,
    serving: ServingModel,
    model: PantherModel,
    named: Mapping[Position, Position],
    risk: Records,
) -> OfflineRun:
    """Decide the topic's records in process, starting from empty states.

    `named`: by position, the record among `risk` that the decision saw of its merchant.
    """
    intake = read_batch(as_consumed(inputs), serving.schema, serving.risk)
    replayer = Replayer(serving, model)
    table = replace(as_arrived(intake.transactions), received_ms=intake.received_ms)
    places = [(record.partition, record.offset) for record in intake.records]
    replayed = replayer.decide(replace(table, seller=sellers(places, named, risk)))
    memory = replayer.memory()
    offsets = np.array([record.offset for record in intake.records], np.int64)
    memory["states"]["last_offset"] = offsets[memory["states"]["last_offset"]] % EPOCH
    users = memory["users"].tolist()
    newest: dict[tuple[int, int, int], int] = {}
    first = []
    for row, (event, kept) in enumerate(zip(intake.events, replayed.kept.tolist(), strict=True)):
        key = int(event["user"]), int(event["transaction"]), int(event["content"])
        if kept:
            newest[key] = row
        first.append(newest[key])
    states, cached = dict(zip(users, memory["states"], strict=True)), dict(zip(users, memory["cached"], strict=True))
    return OfflineRun(intake, replayed, states, cached, first)
