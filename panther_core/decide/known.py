"""What is known of a batch's events before anything is decided: redeliveries, copies, ids that are used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.state.transition import Events, States


class HeldDecision(NamedTuple):
    """What was decided when the user last used a transaction's id, within the horizon of copies.

    `row`: DECISION. `offset`: source offset of its transaction. `same`: the id stood for the very same payment.
    """

    row: np.void
    offset: int
    same: bool


@dataclass(frozen=True)
class KnownEvents:
    """The events of a batch, sorted by what is known of them.

    An event at or before its user's last offset was applied: its decision is durable, since decisions are durable
    before states, and it needs no answer. Of the others, one whose transaction was decided gets that decision: as its
    own if this very record was decided, and the worker died before it stored the state, else once more, as a copy.
    """

    new: NDArray[np.bool_]
    """[B] Events that are to be decided and applied."""
    repeated: dict[int, np.void]
    """Copies of decided transactions, with the decision that is published again."""
    recalled: dict[int, np.void]
    """Events among `new` that were decided before a crash, with that decision."""
    copied: dict[int, int]
    """Copies of events of this very batch, with the event that is decided."""
    reused: NDArray[np.bool_]
    """[B] Events whose user has used the transaction id before, for another payment."""

    @classmethod
    def of(
        cls,
        states: States,
        rows: NDArray[np.intp],
        events: Events,
        held: Mapping[int, HeldDecision],
        one_each: bool,
    ) -> KnownEvents:
        """Sort the events of a batch; `one_each`: no user is in it twice."""
        new = events["offset"] > states["last_offset"][rows]
        reused = np.zeros(len(events), np.bool_)
        out = cls(new, {}, {}, {}, reused)
        for i, decided in held.items():
            if not new[i]:
                continue
            if not decided.same:
                reused[i] = True
            elif decided.offset == events["offset"][i]:
                out.recalled[i] = decided.row
            else:
                out.repeated[i] = decided.row
        if not one_each:
            out._find_copies(events)
        new[[*out.repeated, *out.copied]] = False
        return out

    def _find_copies(self, events: Events) -> None:
        first: dict[tuple[int, int], dict[int, int]] = {}  # user and id -> content -> event
        columns = (events[name].tolist() for name in ("user", "transaction", "content"))
        for i, (user, transaction, content) in enumerate(zip(*columns, strict=True)):
            if not self.new[i] or i in self.repeated:
                continue
            used = first.setdefault((user, transaction), {})
            if content in used:
                self.copied[i] = used[content]
                self.recalled.pop(i, None)
                continue
            if used:
                self.reused[i] = True
            used[content] = i
