"""Runs a known log through the very functions the worker runs, in process: what would have been decided.

The state functions are run wave by wave (panther_core.history), the model over whole context windows: no decision
feeds back into a model's inputs, so this equals the stream to float rounding (DESIGN section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.engine import make_decisions
from panther_core.history import History, prepare
from panther_core.model.serving import PantherModel
from panther_core.scoring import RECENT, ScoreRequest, ScoreResponse
from panther_core.state import DECISION
from panther_core.table import TransactionTable
from panther_core.transition import code_array
from stream.live_models import ServingModel

_CHUNK = 8192  # rows scored at once: bounds memory, large enough to keep the cores busy


@dataclass(frozen=True)
class Replayed:
    """DECISION rows [N] in the table's order; `kept` false = a redelivery, answered with the earlier decision."""

    decision: NDArray[np.void]
    kept: NDArray[np.bool_]


def previous(history: History) -> NDArray[np.int64]:
    """Row of the same user's event before each event [N], -1 for first events and redeliveries."""
    before = np.full(len(history.code), -1, np.int64)
    before[history.order[1:]] = history.order[:-1]
    before[history.order[history.bounds[:-1][np.diff(history.bounds) > 0]]] = -1
    return before


def replay(table: TransactionTable, serving: ServingModel, model: PantherModel) -> Replayed:
    """Decide every transaction of `table` (arrival order) from empty states. Clock fields are the event's own time."""
    events = table.events(serving.schema)
    events["code"]["risk"] = serving.risk.level(events["merchant"])
    history = prepare(events, serving.schema, serving.codec.length)
    cached, expected = model.encode_history(history)
    before = previous(history)
    recent = _recent(history, before)
    events["code"] = code_array(history.code)

    decisions = []
    for start in range(0, len(events), _CHUNK):
        part = slice(start, start + _CHUNK)
        known = (before[part] >= 0)[:, None]
        request = ScoreRequest(
            features=history.features[part],
            code=history.code[part],
            recent=recent[part],
            profile=history.profile[part],
            cached=np.where(known, cached[before[part]], np.float32(0)),
            history_len=history.history_len[part].astype(np.int32),
        )
        answer = ScoreResponse(*model.score(request))
        everything = np.ones(len(request.code), np.bool_)
        decisions.append(
            make_decisions(
                events[part],
                request.features,
                serving.live,
                answer,
                live=everything,
                current=everything,
                history_len=history.history_len[part],
                late=history.late[part],
                expected=code_array(np.where(known, expected[before[part]], np.uint64(0))),
            )
        )
    decision = np.concatenate(decisions) if decisions else np.zeros(0, DECISION)
    decision["scored_at"] = events["time_ms"]
    return Replayed(decision, history.kept)


def _recent(history: History, before: NDArray[np.int64]) -> NDArray[np.uint64]:
    out = np.zeros((len(before), RECENT), np.uint64)
    at = before
    for place in range(RECENT - 1, -1, -1):
        out[:, place] = np.where(at >= 0, history.code[at], np.uint64(0))
        at = np.where(at >= 0, before[at], -1)
    return out
