"""How one event changes one user's state: vectorised over rows with unique users, no model involved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import CODE, AttributeSchema
from panther_core.state.features import change_flags, decay
from panther_core.state.record import MERCHANTS
from panther_core.state.spending import take_payments
from panther_core.state.window import RECENT, window_length, window_start

States = NDArray[np.void]
Events = NDArray[np.void]

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_ALPHA_MIN = 0.02  # the running amount statistics remember about 50 events


def packed(codes: NDArray[np.void]) -> NDArray[np.uint64]:
    """CODE records as uint64, same shape."""
    return np.ascontiguousarray(codes).view(np.uint64)


def _ring(states: States) -> NDArray[np.uint64]:
    """The ring of each state as uint64 [B, L]: a view, since numpy would copy records field by field."""
    dtype, offset = states.dtype.fields["ring"][:2]  # type: ignore[index]
    shape, strides = (len(states), *dtype.shape), (states.strides[0], CODE.itemsize)
    return np.ndarray(shape, np.uint64, states.data, offset, strides) if len(states) else np.empty(shape, np.uint64)


def complete(states: States, events: Events, schema: AttributeSchema) -> Events:
    """Copy of the events with what depends on the user's past filled in: gap and flags codes, and the profile."""
    out = events.copy()
    gap = np.maximum(events["time_ms"] - states["last_time_ms"], 0)  # late events: appended with gap 0
    out["code"]["gap"] = np.where(states["n"] > 0, schema.gap_code(gap), 0)
    out["code"]["flags"] = change_flags(states, events)
    given = events["profile"].any(axis=1, keepdims=True)
    out["profile"] = np.where(given, events["profile"], states["profile"])
    return out


def late_events(states: States, events: Events) -> NDArray[np.bool_]:
    """Which events are older than their user's latest: scored, appended in arrival order, and marked."""
    late: NDArray[np.bool_] = (states["n"] > 0) & (events["time_ms"] < states["last_time_ms"])
    return late


def recent(states: States) -> NDArray[np.uint64]:
    """CODEs of the last RECENT events [B, RECENT], oldest first; 0 where there are none."""
    ring = _ring(states)
    index = states["n"][:, None] + np.arange(-RECENT, 0)
    codes = np.take_along_axis(ring, index % ring.shape[1], axis=1)
    return np.where(index >= 0, codes, np.uint64(0))


def context(states: States) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Codes [B, L] of each user's context window, oldest first, zeros on the right, and its length [B]."""
    ring = _ring(states)
    size = ring.shape[1]
    n: NDArray[np.int64] = states["n"]
    start, length = window_start(n, size), window_length(n, size)
    codes = ring.copy()
    turned = start % size != 0  # a window begins at a multiple of L / 2: at the ring's beginning, or in its middle
    codes[turned] = np.roll(codes[turned], size // 2, axis=1)
    codes[np.arange(size) >= length[:, None]] = 0
    return codes, np.asarray(length, np.int32)


def extend_hash(before: NDArray[np.uint64], codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash [B] of windows after appending one event each."""
    mixed = (before ^ codes) * _MIX
    return mixed ^ (mixed >> _SHIFT)


def empty_hash(profile: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash [B] of windows without events; the profile is part of it, since it enters at every position."""
    return (np.ascontiguousarray(profile).view(np.uint64)[:, 0] + np.uint64(1)) * _MIX


def hash_codes(codes: NDArray[np.uint64], length: NDArray[np.int32], profile: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash [B] of the windows codes[b, :length[b]]."""
    out = empty_hash(profile)
    for t in range(int(length.max(initial=0))):
        out = np.where(t < length, extend_hash(out, codes[:, t]), out)
    return out


def append(states: States, events: Events) -> None:
    """Apply completed events to the states, in place: ring, window hash, aggregates, last-seen fields."""
    size = states["ring"].shape[1]
    rows = np.arange(len(states))
    n, time = states["n"].copy(), events["time_ms"]
    first = n == 0

    factor = decay(states, time)
    states["counts"] = states["counts"] * factor + 1
    states["sums"] = states["sums"] * factor + events["amount"][:, None]
    log_amount = np.log1p(events["amount"])
    alpha = np.maximum(1 / (n + 1), _ALPHA_MIN)
    delta = log_amount - states["amount_mean"]
    states["amount_mean"] += alpha * delta
    states["amount_var"] = (1 - alpha) * (states["amount_var"] + alpha * delta**2)

    take_payments(states, events["amount"].astype(np.float64), time)
    states["merchants"][rows, n % MERCHANTS] = events["merchant"]
    for name in ("country", "device"):
        states[name] = np.where(events[name] != 0, events[name], states[name])
    states["first_time_ms"] = np.where(first, time, states["first_time_ms"])
    states["last_time_ms"] = np.where(first, time, np.maximum(time, states["last_time_ms"]))
    states["last_offset"] = events["offset"]

    changed = first | (states["profile"] != events["profile"]).any(axis=1)
    states["profile"] = events["profile"]
    states["ring"][rows, n % size] = events["code"]
    states["n"] = n + 1
    # the hash is extended by the new event, but computed anew where the window fell back or the profile changed, which
    # enters at every position
    fell = window_start(n + 1, size) != window_start(n, size)
    states["window_hash"] = extend_hash(
        np.where(first, empty_hash(states["profile"]), states["window_hash"]), packed(events["code"])
    )
    redo = np.flatnonzero((fell | changed) & ~first)
    if len(redo):
        codes, length = context(states[redo])
        states["window_hash"][redo] = hash_codes(codes, length, states["profile"][redo])


def code_array(codes: NDArray[np.uint64]) -> NDArray[np.void]:
    """uint64 back to CODE records, same shape."""
    return np.ascontiguousarray(codes).view(CODE)
