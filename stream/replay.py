"""Runs a known log through the very functions the worker runs, in process: what would have been decided.

The state functions are run wave by wave (panther_core.history), the model over whole context windows: no decision
feeds back into a model's inputs, so this equals the stream to float rounding (DESIGN section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.engine import give_reasons, make_decisions, to_explain
from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.history import prepare
from panther_core.model.bulk import places, score_request
from panther_core.model.serving import PantherModel
from panther_core.state import ALERT, DECISION
from panther_core.table import TransactionTable
from panther_core.transition import code_array
from stream.live_models import ServingModel

_CHUNK = 8192  # rows scored at once: bounds memory, large enough to keep the cores busy


@dataclass(frozen=True)
class Replayed:
    """DECISION rows [N] in the table's order; `kept` false = a redelivery: no decision of its own."""

    decision: NDArray[np.void]
    kept: NDArray[np.bool_]


def replay(table: TransactionTable, serving: ServingModel, model: PantherModel) -> Replayed:
    """Decide every transaction of `table` (arrival order) from empty states. Clock fields are the event's own time."""
    events = table.events(serving.schema)
    events["code"]["risk"] = serving.risk.level(events["merchant"])
    history = prepare(events, serving.schema, serving.codec.length)
    encoded = model.encode_history(history)
    place = places(history)
    decision = np.zeros(len(events), DECISION)
    for rows in np.array_split(np.flatnonzero(history.kept), max(1, len(events) // _CHUNK)):
        request = score_request(history, encoded, rows)
        known = history.history_len[rows]
        expected = np.where((known > 0)[:, None], encoded.expected[np.maximum(place[rows] - 1, 0)], np.uint64(0))
        everything = np.ones(len(rows), np.bool_)
        made = make_decisions(
            events[rows],
            request.features,
            serving.live,
            model.score(request),
            live=everything,
            current=everything,
            history_len=known,
            late=history.late[rows],
            expected=code_array(expected),
        )
        alerts = to_explain(made)
        if len(alerts):
            give_reasons(made, alerts, model.explain(request.take(alerts)))
        decision[rows] = made
    decision["scored_at"] = events["time_ms"]
    return Replayed(decision, history.kept)


def measure(table: TransactionTable, replayed: Replayed) -> dict[str, Any]:
    """What the decisions were worth, over the transactions whose label is known."""
    known = replayed.kept & (table.label >= 0)
    label, decision = table.label[known], replayed.decision[known]
    out = {"transactions": len(table), "labelled": int(known.sum()), "frauds": int(label.sum())}
    if not 0 < label.sum() < len(label):
        return out  # nothing to tell apart
    alert = (decision["flags"] & ALERT) > 0
    return out | fraud_metrics(decision["score"], label) | alert_metrics(alert, label)
