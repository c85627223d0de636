"""A known stretch of events, run through the engine's state functions without a model: for training and replay.

No decision feeds back into a model's inputs. So features and codes are computed first, for all events, and the model
is run over whole context windows afterwards (docs/architecture.md). Wave k holds every user's k-th event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema
from panther_core.state.copies import Copies
from panther_core.state.features import WIDTH, context_features
from panther_core.state.record import StateCodec, put_rows, take_rows
from panther_core.state.transition import append, complete, late_events, packed
from panther_core.state.waves import waves


@dataclass(frozen=True)
class History:
    """N events in arrival order, U users. Rows with `kept` false were copies and changed nothing.

    `features` and `seller` may be those of W events alone: `at` [N] says which row is an event's, -1 for none.
    """

    features: NDArray[np.float32]  # [N or W, F] context features of each event, before it was applied
    code: NDArray[np.uint64]  # [N] CODE of each event, gap and flags filled
    history_len: NDArray[np.int32]  # [N] events of that user known before this one
    user: NDArray[np.int32]  # [N] dense user index
    profile: NDArray[np.uint8]  # [N, 8] profile codes in force at the event
    kept: NDArray[np.bool_]  # [N]
    late: NDArray[np.bool_]  # [N]
    order: NDArray[np.int32]  # [kept] rows sorted by (user, arrival)
    bounds: NDArray[np.int64]  # [U + 1] user u's history is order[bounds[u]:bounds[u + 1]]
    users: NDArray[np.uint64]  # [U] user hashes
    states: NDArray[np.void]  # [U] state after the last event, without model outputs
    seller: NDArray[np.float32]  # [N or W, S] what was known of each event's merchant (EVENT)
    at: NDArray[np.int32] | None = None

    def held(self, rows: NDArray[np.int64]) -> NDArray[np.integer]:
        """The rows of `features` and `seller` that are those of events `rows`. Raises KeyError where there are none."""
        return rows if self.at is None else held(self.at, rows)


def places_in(count: int, wanted: NDArray[np.int64]) -> NDArray[np.int32]:
    """`at` [count] for an array that holds `wanted` alone: which of its rows is that of each, -1 for none."""
    at = np.full(count, -1, np.int32)
    at[wanted] = np.arange(len(wanted))
    return at


def held(at: NDArray[np.int32], wanted: NDArray[np.int64]) -> NDArray[np.int32]:
    """`at[wanted]`, places in an array that holds some of many. Raises KeyError for one that it does not hold (-1)."""
    found = at[wanted]
    if (found < 0).any():
        raise KeyError(f"expected rows that were asked for, got {int((found < 0).sum())} others")
    return found


def by_user(
    user: NDArray[np.integer], kept: NDArray[np.bool_], users: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`order` and `bounds` of rows [N] whose users have these numbers, from 0 to `users`."""
    rows = np.flatnonzero(kept).astype(np.int32)
    own = user[rows]
    return rows[np.argsort(own, kind="stable")], np.append(0, np.cumsum(np.bincount(own, minlength=users)))


def prepare(
    events: NDArray[np.void],
    schema: AttributeSchema,
    length: int,
    states: NDArray[np.void] | None = None,
    copy: NDArray[np.bool_] | None = None,
) -> History:
    """Run EVENT rows (arrival order, offsets increasing) through states; `length` is the context length L.

    `states` (changed in place): of the events' distinct users by ascending hash, without model outputs; fresh ones
    where none are given. `copy` [N]: rows that change nothing; where it is not given, the copies among these rows.
    """
    if copy is None:
        copy = Copies().find(events, events["time_ms"])[0]
    users, user = np.unique(events["user"], return_inverse=True)
    if states is None:
        states = StateCodec(schema, length, cached=0).fresh(len(users))
    count = len(events)
    features = np.zeros((count, WIDTH), np.float32)
    code = np.zeros(count, np.uint64)
    history_len = np.zeros(count, np.int32)
    profile = np.zeros((count, PROFILE_FIELDS), np.uint8)
    kept = np.zeros(count, np.bool_)
    late = np.zeros(count, np.bool_)
    for wave in waves(user):
        wave = wave[~copy[wave]]
        part = take_rows(states, user[wave])
        new = complete(part, take_rows(events, wave), schema)
        features[wave] = context_features(part, new)
        code[wave], profile[wave] = packed(new["code"]), new["profile"]
        history_len[wave] = part["n"]
        late[wave] = late_events(part, new)
        kept[wave] = True
        append(part, new)
        put_rows(states, user[wave], part)
    order, bounds = by_user(user, kept, len(users))
    return History(
        features,
        code,
        history_len,
        user.astype(np.int32),
        profile,
        kept,
        late,
        order,
        bounds,
        users,
        states,
        events["seller"].copy(),
    )
