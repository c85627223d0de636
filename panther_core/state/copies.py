"""Which records of a log are copies of earlier ones, and which use an id again for another payment.

A copy is the same transaction: same user, same id, same content (panther_core.data.table), at most a horizon later. The
worker finds copies in the decisions that it keeps (stream.worker.decided); a log that is replayed or learnt from goes
through `Copies`, by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import HOUR_MS
from panther_core.data.table import mixed

#: horizon of a worker that is not told another one (PANTHER_RECALL_HOURS)
RECALL_MS = 6 * HOUR_MS


@dataclass
class _Used:
    """What an id stands for: the payment that used it first, and every payment since; content -> time received, ms."""

    first: int
    received: dict[int, int] = field(default_factory=dict)


class Copies:
    """Finds the copies of a log that comes in parts; keeps what the horizon reaches back to."""

    def __init__(self, recall_ms: int = RECALL_MS) -> None:
        self.recall_ms = recall_ms
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing that comes is a copy of what came so far."""
        # rows by id, then by arrival; `since`: when the id was used first, of the payments that it stands for
        self._id, self._content = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self._received, self._since = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def find(
        self, events: NDArray[np.void], received_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Two masks [N] of EVENT rows in arrival order: copies, and payments under an id that was used before."""
        ids = mixed([events["user"], events["transaction"]])
        _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
        at = np.searchsorted(self._id, ids)
        held = np.zeros(len(ids), np.bool_)
        if len(self._id):
            held = self._id[np.minimum(at, len(self._id) - 1)] == ids
        copy, reused = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.bool_)
        since = received_ms.copy()
        used: dict[int, _Used] = {}
        for row in np.flatnonzero((counts[inverse] > 1) | held).tolist():
            number, content, now_ms = int(ids[row]), int(events["content"][row]), int(received_ms[row])
            if number not in used and held[row]:
                used[number] = self._used(number, int(at[row]))
            before = used.get(number)
            if before is None or abs(now_ms - before.received[before.first]) > self.recall_ms:
                used[number] = _Used(content, {content: now_ms})
            elif content in before.received and abs(now_ms - before.received[content]) <= self.recall_ms:
                copy[row] = True
            else:
                reused[row] = True
                before.received[content] = now_ms
                since[row] = before.received[before.first]
        own = ~copy
        self._keep(ids[own], events["content"][own], received_ms[own], since[own])
        return copy, reused

    def memory(self) -> dict[str, NDArray[Any]]:
        """All that is kept, as arrays: what `restore` takes."""
        columns = {"ids": self._id, "content": self._content, "received_ms": self._received, "since_ms": self._since}
        return {f"copy_{name}": column for name, column in columns.items()}

    def restore(self, memory: dict[str, NDArray[Any]]) -> None:
        """Continue from where `memory` was taken."""
        self._id, self._content = memory["copy_ids"], memory["copy_content"]
        self._received, self._since = memory["copy_received_ms"], memory["copy_since_ms"]

    def _used(self, number: int, at: int) -> _Used:
        """What an id stands for since it was last used as a new one; its rows begin at `at`."""
        end = int(np.searchsorted(self._id, np.uint64(number), side="right"))
        own = at + np.flatnonzero(self._since[at:end] == self._since[end - 1])
        received = dict(zip(self._content[own].tolist(), self._received[own].tolist(), strict=True))
        return _Used(int(self._content[own[0]]), received)

    def _keep(
        self,
        ids: NDArray[np.uint64],
        content: NDArray[np.uint64],
        received_ms: NDArray[np.int64],
        since: NDArray[np.int64],
    ) -> None:
        """Add rows, in arrival order; forget ids that were used as new ones too long ago."""
        ids, content = np.concatenate([self._id, ids]), np.concatenate([self._content, content])
        received_ms, since = np.concatenate([self._received, received_ms]), np.concatenate([self._since, since])
        near = np.flatnonzero(since >= received_ms.max(initial=0) - self.recall_ms)
        order = near[np.argsort(ids[near], kind="stable")]
        self._id, self._content, self._received, self._since = (
            ids[order],
            content[order],
            received_ms[order],
            since[order],
        )
