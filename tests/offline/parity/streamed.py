"""A stream without Kafka: the engine event by event over two versions, published as the worker publishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from offline.parity.online import Online
from offline.replay import Replayer
from panther_core.data.decision import ALERT
from panther_core.data.events import Transaction
from panther_core.data.table_rows import as_arrived
from panther_core.decide.engine import decide
from panther_core.decide.known import HeldDecision
from panther_core.decide.records import alert_of, decisions_of, to_json
from panther_core.kafka.answers import headers_of
from panther_core.model.serving import PantherModel
from panther_core.serving_model import ServingModel, load_serving_model
from tests.steps import asking, decided

APP, BATCH = "test-app", 8


@dataclass
class Published:
    """A record, as far as parity looks at one."""

    value: bytes
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Streamed:
    """What was published, and every state that was stored, by user, oldest first."""

    scores: list[Published] = field(default_factory=list)
    alerts: list[Published] = field(default_factory=list)
    states: dict[str, list[np.void]] = field(default_factory=dict)
    held: dict[tuple[int, int], HeldDecision] = field(default_factory=dict)  # by user and transaction

    def online(self) -> Online:
        return Online.of(APP, self.scores, self.alerts)  # type: ignore[arg-type]


@dataclass
class Version:
    """A version, live from an event on; `rules`: no model answers."""

    begin: int
    serving: ServingModel
    model: PantherModel
    rules: bool = False


def load(folder: Path) -> Replayer:
    return Replayer(load_serving_model(folder), PantherModel.load(folder))


def stream(transactions: list[Transaction], versions: list[Version]) -> Streamed:
    """Decide everything in small batches, all in partition 0; the offset is the place in the list."""
    out = Streamed()
    table = as_arrived(transactions)
    codec = versions[0].serving.codec
    users, rows = np.unique(np.array([t.user_id for t in transactions]), return_inverse=True)
    states = codec.fresh(len(users))
    begins = [v.begin for v in versions] + [len(transactions)]
    for version, end in zip(versions, begins[1:], strict=True):
        for low in range(version.begin, end, BATCH):
            at = np.arange(low, min(low + BATCH, end))
            events = table.events(version.serving.schema, version.serving.risk)[at]
            _batch(out, states, rows[at], at, events, transactions, version)
            for row in np.unique(rows[at]).tolist():
                out.states.setdefault(str(users[row]), []).append(states[row].copy())
    return out


def _batch(out, states, rows, at, events, transactions, version) -> None:  # type: ignore[no-untyped-def]
    serving, model = version.serving, version.model
    known = zip(events["user"].tolist(), events["transaction"].tolist(), strict=True)
    held = {i: out.held[key] for i, key in enumerate(known) if key in out.held}
    steps = decide(states, rows, events, serving.schema, serving.live, lambda: int(at[0]), events["time_ms"], held)
    for need in decided(steps, (lambda _: None) if version.rules else asking(model)):
        for i, row in zip(need.event.tolist(), need.decision, strict=True):
            transaction = transactions[at[i]]
            key = int(events["user"][i]), int(events["transaction"][i])
            out.held.setdefault(key, HeldDecision(row.copy(), int(at[i]), same=True))
            (decision,) = decisions_of(
                np.array([row]), [transaction.transaction_id], [transaction.user_id], [int(events["time_ms"][i])]
            )
            headers = headers_of(APP, 0, int(at[i]))
            out.scores.append(Published(to_json(decision), headers))
            if row["flags"] & ALERT:
                alert = alert_of(row, decision, transaction, serving.schema, serving.tokenizer_version)
                out.alerts.append(Published(to_json(alert), headers))
