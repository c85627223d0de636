"""One partition of the stream as a shadow decides it: payments that wait for live decisions, and users' states."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.replay.replayer import Replayer
from panther_core.base.times import now_ms
from panther_core.data.decision import Decision
from panther_core.data.events import Transaction, event_time_ms
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import as_arrived
from panther_core.decide.records import decisions_of
from panther_core.kafka.answers import NOWHERE, Position

#: payments, and live decisions, that are held at most: bounds memory
MOST_WAITING, MOST_NAMED = 10_000, 50_000
_AT_ONCE = 5000
_UNDECIDED_S = 15.0  # after so long without a live decision, with no more of them to be read, a payment is decided
_LATEST_MS = 2**31 - 1  # `latency_ms` of a decision has 4 bytes


class Payment(NamedTuple):
    """A payment of the topic. `seen_s`: when it was read, by the monotonic clock."""

    offset: int
    received_ms: int
    transaction: Transaction
    seen_s: float


class Made(NamedTuple):
    """A decision to publish, the offset of its payment, and the record of merchant.risk that it saw."""

    offset: int
    decision: Decision
    seller: Position


@dataclass
class Partition:
    """`start`: offset of the first payment that is still to be decided and published. `named`: what live decisions knew
    of their merchants, by offset of the payment. `published`: offsets, by earlier runs."""

    replayer: Replayer
    start: int
    published: frozenset[int] = frozenset()
    waiting: deque[Payment] = field(default_factory=deque)
    named: dict[int, Position] = field(default_factory=dict)

    def note(self, offset: int, seller: Position) -> None:
        """Take down a live decision; the first one on a payment counts."""
        if offset >= self.start:
            self.named.setdefault(offset, seller)

    def ready(self, no_more: bool) -> list[tuple[Payment, Position | None]]:
        """Take the payments whose turn it is, each with the record that its live decision names; None: not decided.

        `no_more`: every live decision that there is has been noted. A payment that is not decided, though many after it
        are, or for a while, waits no longer.
        """
        late_s = time.monotonic() - _UNDECIDED_S
        full = len(self.named) >= MOST_NAMED
        out: list[tuple[Payment, Position | None]] = []
        while self.waiting and len(out) < _AT_ONCE:
            first = self.waiting[0]
            if not (first.offset in self.named or full or (no_more and first.seen_s < late_s)):
                break
            out.append((self.waiting.popleft(), self.named.pop(first.offset, None)))
            self.start = first.offset + 1
        return out

    def learn(self, payments: Sequence[Payment]) -> None:
        """Take payments into the states of their users. What their merchants were known for leaves no trace there."""
        self.replayer.learn(_table(payments).with_unknown_merchants())

    def made(
        self, ready: Sequence[tuple[Payment, Position | None]], seller: NDArray[np.float32]
    ) -> tuple[list[Made], int]:
        """Decide payments [N] that were ready; `seller` [N, S]: what is known of their merchants.

        Copies have no decision. Returns also how many were published before.
        """
        payments = [payment for payment, _ in ready]
        replayed = self.replayer.decide(replace(_table(payments), seller=seller))
        fresh = np.array([payment.offset not in self.published for payment in payments])
        rows, now = np.flatnonzero(replayed.kept & fresh).tolist(), now_ms()
        chosen, decision = [payments[row] for row in rows], replayed.decision[rows]
        decision["scored_at"] = now
        decision["latency_ms"] = np.clip([now - payment.received_ms for payment in chosen], 0, _LATEST_MS)
        paid = [payment.transaction for payment in chosen]
        decisions = decisions_of(
            decision,
            [t.transaction_id for t in paid],
            [t.user_id for t in paid],
            [event_time_ms(t.event_time) for t in paid],
        )
        sellers = [ready[row][1] or NOWHERE for row in rows]
        offsets = [payment.offset for payment in chosen]
        return list(map(Made, offsets, decisions, sellers)), int((replayed.kept & ~fresh).sum())


def _table(payments: Sequence[Payment]) -> TransactionTable:
    table = as_arrived([payment.transaction for payment in payments])
    return replace(table, received_ms=np.array([payment.received_ms for payment in payments], np.int64))
