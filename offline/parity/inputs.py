"""Where a mismatch began: the first input that differs, from token to output.

The stream's inputs are on the changelog: the state that the worker stored after the event, and the state before the
event. The replay's inputs are computed here again, from the user's own events. The changelog is compacted; where it no
longer holds these states, the cause says so, and the walk continues with what the decision itself tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.parity.compare import Mismatch
from offline.parity.decided import ReplayedLog
from offline.parity.log import StreamLog
from panther_core.data.schema import CODE
from panther_core.data.table import TransactionTable
from panther_core.serving_model import ServingModel
from panther_core.state.features import NAMES, context_features
from panther_core.state.history import prepare
from panther_core.state.record import StateCodec, epoch_and_offset
from panther_core.state.transition import complete

_STATE = (
    *("n", "first_time_ms", "last_time_ms", "amount_mean", "amount_var", "counts", "sums", "merchants"),
    *("usual", "odd_time_ms", "odd_ratio", "day", "days"),
    *("country", "device", "profile", "ring", "window_hash"),
)
_FEATURE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Cause:
    """The first input that differs. `step`: token, feature, state, model version, or output (no input differs)."""

    step: str
    name: str
    online: Any
    replayed: Any
    note: str = ""


@dataclass(frozen=True)
class EventInputs:
    """Inputs of one decision: the user's state before the event, the event completed from it, its features [F]."""

    before: np.void
    event: np.void
    features: NDArray[np.float32]


def first_cause(
    mismatch: Mismatch,
    log: StreamLog,
    decided: ReplayedLog,
    serving: ServingModel,
    states: list[np.void],
    tolerance: float,
) -> Cause:
    """Walk the inputs of one mismatch. `states`: the user's states that the changelog holds, oldest first."""
    replayed = replayed_inputs(log, decided, serving, mismatch.row)
    known = int(replayed.before["n"])
    offsets = [epoch_and_offset(int(s["last_offset"]))[1] if s["last_offset"] >= 0 else -1 for s in states]
    pairs = list(zip(states, offsets, strict=True))
    after = next((s for s, offset in pairs if offset == mismatch.place[1] >= 0), None)
    before = next((s for s, offset in reversed(pairs) if s["n"] == known and offset < mismatch.place[1]), None)
    note = "" if after is not None else "the changelog no longer holds the state after this event"
    if mismatch.field == "model version":
        return Cause("model version", "named by the decision", mismatch.online, mismatch.replayed, note)
    if other := _other_version(mismatch, decided, tolerance):
        return other
    if mismatch.field == "history_len":
        return Cause("state", "n", mismatch.online, mismatch.replayed, note)
    if after is not None:
        code = after["ring"][(int(after["n"]) - 1) % len(after["ring"])]
        for name in CODE.names or ():
            if code[name] != replayed.event["code"][name]:
                return Cause("token", name, int(code[name]), int(replayed.event["code"][name]))
    if before is not None:
        state = np.array([before])
        event = complete(state, np.array([replayed.event]), serving.schema)
        features = context_features(state, event)[0]
        apart = np.flatnonzero(np.abs(features - replayed.features) > _FEATURE_TOLERANCE)
        if len(apart):
            at = apart[0]
            return Cause("feature", NAMES[at], float(features[at]), float(replayed.features[at]))
        if known:
            for name in _STATE:
                if before[name].tobytes() != replayed.before[name].tobytes():
                    return Cause("state", name, before[name].tolist(), replayed.before[name].tolist())
    return Cause("output", mismatch.field, mismatch.online, mismatch.replayed, note)


def _other_version(mismatch: Mismatch, decided: ReplayedLog, tolerance: float) -> Cause | None:
    """The version whose score or threshold was published, where it is another one than the decision names."""
    named = int(decided.version[mismatch.row])
    if mismatch.field in ("score", "threshold"):
        for version, made in decided.by_version.items():
            if version != named and abs(made[mismatch.field][mismatch.row] - mismatch.online) <= tolerance:
                text = f"the {mismatch.field} is that of another version than the decision names"
                return Cause("model version", f"whose {mismatch.field} it is", version, named, text)
    return None


def replayed_inputs(log: StreamLog, decided: ReplayedLog, serving: ServingModel, row: int) -> EventInputs:
    """What the replay gave to the model for this row, computed from the user's events up to this row."""
    user = log.table.user[row]
    schema, length = serving.schema, serving.codec.length
    events = _events(log.table, np.arange(row + 1), decided.risk, user, serving)
    state = StateCodec(schema, length, cached=0).fresh(1)
    if log.past is not None:
        past = _events(log.past, np.arange(len(log.past)), decided.past_risk, user, serving)
        if len(past):
            prepare(past, schema, length, state)
    if len(events) > 1:
        prepare(events[:-1], schema, length, state)
    event = complete(state, events[-1:], schema)
    if log.table.seller is not None:
        event["seller"] = log.table.seller[row]
    return EventInputs(state[0], event[0], context_features(state, event)[0])


def _events(
    table: TransactionTable, rows: NDArray[np.intp], risk: NDArray[np.uint8], user: str | None, serving: ServingModel
) -> NDArray[np.void]:
    words = np.array([word == user for word in table.user.words])
    rows = rows[words[table.user.index[rows]]]
    return table.take(rows).events(serving.schema, risk[rows])


def readable(inputs: EventInputs, serving: ServingModel) -> dict[str, Any]:
    """The inputs of an event in words: its code, and the features that are not zero."""
    code = {name: int(inputs.event["code"][name]) for name in CODE.names or ()}
    category, channel = code["category"], code["channel"]
    return {
        "code": code,
        "category": serving.schema.categories[category - 1] if category else "[unknown]",
        "channel": serving.schema.channels[channel - 1] if channel else "[unknown]",
        "features": {n: round(float(v), 6) for n, v in zip(NAMES, inputs.features, strict=True) if v},
        "history_len": int(inputs.before["n"]),
    }
