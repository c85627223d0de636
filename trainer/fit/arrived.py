"""A log as its events arrived, run through the states in stretches: what is held for each event is what is asked for.

N events, U users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.merchant_risk import Risk
from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema
from panther_core.data.table import EventRows, TransactionTable, hash_words
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.state.copies import Copies
from panther_core.state.features import WIDTH
from panther_core.state.history import History, by_user, places_in, prepare
from panther_core.state.record import StateCodec, put_rows, take_rows

_AT_ONCE = 131_072  # events

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Arrived:
    """Events of a table in time order, their users, and which are no copies."""

    table: TransactionTable
    schema: AttributeSchema
    events: EventRows
    users: NDArray[np.uint64]  # [U] hashes, ascending
    user: NDArray[np.int32]  # [N] place among `users`
    kept: NDArray[np.bool_]  # [N]
    order: NDArray[np.int32]  # [kept] rows by (user, arrival)
    bounds: NDArray[np.int64]  # [U + 1] user u's events are order[bounds[u]:bounds[u + 1]]

    @classmethod
    def of(cls, table: TransactionTable, schema: AttributeSchema, risk: Risk) -> Arrived:
        """`risk` as TransactionTable.events takes it."""
        events, copies, kept = EventRows(table, schema, risk), Copies(), np.zeros(len(table), np.bool_)
        for stretch in _stretches(len(table)):
            part = events.of(stretch)
            kept[stretch] = ~copies.find(part, part["time_ms"])[0]
        hashed = np.append(hash_words(table.user.words), np.uint64(0))  # the last one for events without a user (-1)
        users = np.unique(hashed[np.unique(table.user.index)])
        user = np.searchsorted(users, hashed).astype(np.int32)[table.user.index]
        return cls(table, schema, events, users, user, kept, *by_user(user, kept, len(users)))

    def earlier(self, rows: Rows, most: NDArray[np.int64]) -> Rows:
        """Rows of the `most` [B] events before each of the (kept) rows [B] of its user, or of all where there are
        fewer."""
        place = np.empty(len(self.kept), np.int32)
        place[self.order] = np.arange(len(self.order))
        back = np.arange(1, most.max(initial=0) + 1)
        at = place[rows][:, None] - back
        return np.unique(self.order[at[(back <= most[:, None]) & (at >= self.bounds[self.user[rows]][:, None])]])

    def history(
        self, length: int, label_delay_ms: int, merchants: MerchantHistory, wanted: Rows | None = None
    ) -> History:
        """Their history, with context length `length`; `features` and `seller` of the rows `wanted`, or of all.

        What is known of merchants is what the table says, or follows from it: `merchants` takes in all that happens.
        """
        table, count = self.table, len(self.kept)
        rows = np.arange(count) if wanted is None else wanted
        at = places_in(count, rows)
        features, seller = (np.zeros((len(rows), width), np.float32) for width in (WIDTH, len(RISK_NAMES)))
        code, profile = np.zeros(count, np.uint64), np.zeros((count, PROFILE_FIELDS), np.uint8)
        history_len, late = np.zeros(count, np.int32), np.zeros(count, np.bool_)
        states = StateCodec(self.schema, length, cached=0).fresh(len(self.users))
        for stretch in _stretches(count):
            events = self.events.of(stretch, stretch.start)
            if table.seller is not None:
                events["seller"] = table.seller[stretch]
            who = np.unique(self.user[stretch]).astype(np.int64)
            own = take_rows(states, who)
            part = prepare(events, self.schema, length, own, ~self.kept[stretch])
            put_rows(states, who, own)
            if table.seller is None:
                told = table.take(stretch)
                see_merchants(part, events, told.label, told.labels_told_ms(label_delay_ms), merchants)
            code[stretch], profile[stretch] = part.code, part.profile
            history_len[stretch], late[stretch] = part.history_len, part.late
            row = at[stretch]
            features[row[row >= 0]], seller[row[row >= 0]] = part.features[row >= 0], part.seller[row >= 0]
        return History(
            features, code, history_len, self.user, profile, self.kept, late, self.order, self.bounds, self.users,
            states, seller, None if wanted is None else at,
        )  # fmt: skip


def _stretches(count: int) -> Iterator[slice]:
    return (slice(low, min(low + _AT_ONCE, count)) for low in range(0, count, _AT_ONCE))
