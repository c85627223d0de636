"""An event that was published before a crash is stored as it was then, whatever version is live by now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from panther_core.base.errors import ScorerUnavailable
from panther_core.data.decision import DECISION
from panther_core.data.table import TransactionTable
from panther_core.decide.known import HeldDecision
from panther_core.kafka.answers import NOWHERE
from panther_core.serving_model import load_serving_model
from stream.ops.flood import DeadLetterNotice
from stream.worker.batch_decisions import BatchDecisions
from stream.worker.decided import HeldAnswer
from stream.worker.intake import Placement, read_batch
from stream.worker.merchant_log import MerchantLog
from stream.worker.processor import Processor
from stream.worker.state_store import StateStore
from stream.worker.warm_up import WarmUp


@dataclass
class Record:
    key: bytes
    value: bytes
    offset: int
    partition: int = 0
    timestamp: float = 1_800_000_000.0


class Silent:
    """Neither model nor broker answers anything of interest."""

    sent: list[bytes]

    def __init__(self) -> None:
        self.sent = []

    async def ask(self, *_: Any) -> Any:
        raise ScorerUnavailable("down")

    async def send_all(self, topic: str, partition: int, records: list[Any]) -> Any:
        self.sent += [value for _, value, _ in records]
        future: asyncio.Future[list[range]] = asyncio.get_running_loop().create_future()
        future.set_result([range(len(records))])
        return future


def test_a_recalled_event_keeps_the_risk_level_of_the_version_that_decided_it(
    log: TransactionTable, artifact_folder: Path
) -> None:
    live = load_serving_model(artifact_folder)
    before = replace(live, risk=replace(live.risk, levels=live.risk.levels % 4 + 1))
    row = np.zeros(1, DECISION)[0]
    row["model_version"], row["score"] = 9, 0.25
    held = {1: HeldAnswer(HeldDecision(row, 1, same=True), b"")}
    kept: Any = SimpleNamespace(find=lambda *_: held)
    source: Any = SimpleNamespace(epoch=lambda partition: 0)
    placement, notice = Placement(1, "none"), DeadLetterNotice()

    async def preload(versions: Any) -> None:
        assert list(versions) == [9]

    models = SimpleNamespace(version=lambda number: before if number == 9 else live, preload=preload)
    out = Silent()
    app: Any = SimpleNamespace(conf=SimpleNamespace(id="app"), consumer_generation_id=1)
    parts: Any = (StateStore(None, out), kept, source, placement, notice, MerchantLog(out, 1), None)  # type: ignore[arg-type]
    processor = Processor(app, models, WarmUp(out, 0), out, out, *parts)  # type: ignore[arg-type]
    transactions = list(log.take(slice(0, 2)).rows())
    records: list[Any] = [
        Record(t.user_id.encode(), msgspec.json.encode(t), offset) for offset, t in enumerate(transactions)
    ]
    intake = read_batch(records, live.schema, live.risk)
    assert live.risk.level(intake.events["merchant"]).min() > 0, "both merchants are known"
    states = live.codec.fresh(2)
    told = BatchDecisions(intake, [], [NOWHERE] * 2, [-1] * 2)
    asyncio.run(processor._decide(told, states, np.arange(2), live, 1, [], lambda: None))
    first, second = (int(states["ring"]["risk"][i, 0]) for i in range(2))
    assert first == live.risk.level(intake.events["merchant"][:1])[0]
    assert second == before.risk.level(intake.events["merchant"][1:])[0] != first
    assert b'"score":0.25' in out.sent[1]
