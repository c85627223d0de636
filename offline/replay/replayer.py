"""Decides a log in chunks, in memory that grows with the log's users and not with its rows.

The state functions run wave by wave (panther_core.state.history), the model over whole context windows. No decision
feeds back into a model's inputs, so the result equals the stream's to float rounding. Between chunks every user keeps
the state record that the worker would keep, and the model's outputs after the user's last event.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.data.decision import DECISION
from panther_core.data.table import TransactionTable
from panther_core.decide.decisions import give_reasons, make_decisions, to_explain
from panther_core.decide.rows import take
from panther_core.entities.merchant_alerts import LOOK
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.model.bulk import EncodedHistory, score_request
from panther_core.model.carried import ContinuedHistory, groups, history_continued_from
from panther_core.model.kernels.threads import side_by_side
from panther_core.model.serving import PantherModel
from panther_core.serving_model import ServingModel
from panther_core.state.copies import RECALL_MS, Copies
from panther_core.state.history import History, prepare
from panther_core.state.record import StateCodec, put_rows, take_rows
from panther_core.state.transition import code_array

_POSITIONS = 1 << 16  # events a thread encodes before they are scored and forgotten: bounds memory
_ROWS = 2048  # scored at once: the kernel lets no other thread start an operator meanwhile


@dataclass(frozen=True)
class Replayed:
    """DECISION rows [N] in the table's order; `kept` false = a copy: no decision of its own."""

    decision: NDArray[np.void]
    kept: NDArray[np.bool_]
    features: NDArray[np.float32]  # [N, F] context features: with them the rules' own score can be had
    looks: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, LOOK))  # at merchants, in the hours that passed

    def take(self, rows: slice) -> Replayed:
        """The result for these rows only."""
        return Replayed(self.decision[rows], self.kept[rows], self.features[rows])


class Replayer:
    """One model version, and what it knows of every user so far."""

    def __init__(
        self,
        serving: ServingModel,
        model: PantherModel,
        recall_ms: int = RECALL_MS,
        label_delay_ms: int = 7 * DAY_MS,
    ) -> None:
        """Begin with no user known. `recall_ms`: how long the worker recalls a decision for copies. `label_delay_ms`:
        after a payment its label arrives, and its merchant is known by it."""
        self.serving, self._model = serving, model
        self._copies, self._merchants = Copies(recall_ms), MerchantHistory(serving.merchant_threshold)
        self._label_delay_ms = label_delay_ms
        self._codec = StateCodec(serving.schema, serving.codec.length, cached=0)
        self._slot: dict[int, int] = {}  # user -> row in the arrays below
        self._states = self._codec.fresh(0)
        self._cached = np.zeros((0, serving.codec.dtype["cached"].shape[0]), np.float32)
        self.seen = 0  # rows so far: the next one's offset
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by step
        self._threads: defaultdict[str, float] = defaultdict(float)  # of the chunk in work, by step, all threads' sum
        self._clock = threading.Lock()

    def decide(self, table: TransactionTable, risk: NDArray[np.uint8] | None = None) -> Replayed:
        """Decide the next transactions (arrival order). Clock fields are the event's own time.

        Of merchants is known what the table says that a stream's decisions knew; where it does not, payments of earlier
        hours and the table's labels as they arrive. `risk` [N]: the merchants' risk levels, where they are not this
        version's: an event keeps the level of the version that was live when the event came.
        """
        with self._timed("features"):
            events, slots, before, history, reused = self._prepared(table, risk)
        decision = np.zeros(len(events), DECISION)

        def score(part: ContinuedHistory, encoded: EncodedHistory) -> None:
            with self._in_thread("score"):
                self._score(part, encoded, events, reused, decision)

        self._carry_on(slots, before, history, score)
        decision["scored_at"] = events["time_ms"]
        return Replayed(decision, history.kept, history.features, self._merchants.take_looks())

    def learn(self, table: TransactionTable) -> None:
        """Take in the next transactions as `decide` does, but decide nothing: for a past, of which states are left."""
        with self._timed("features"):
            _, slots, before, history, _ = self._prepared(table, None)
        self._carry_on(slots, before, history, lambda part, encoded: None)

    def _carry_on(
        self,
        slots: NDArray[np.int64],
        before: NDArray[np.void],
        history: History,
        score: Callable[[ContinuedHistory, EncodedHistory], None],
    ) -> None:
        """Encode a history and keep its users' states; `score` is called for each part, on several threads."""

        def users(stretch: tuple[int, int]) -> None:
            low, high = stretch
            at = slots[low:high]
            with self._in_thread("encode"):
                part = history_continued_from(history, low, high, before[low:high])
                encoded = self._model.encode_history(part.history, part.known)
                part.put_outputs(encoded, self._cached[at], before["expected"][low:high])
            score(part, encoded)
            self._cached[at], history.states["expected"][low:high] = part.last_outputs(encoded)

        # each stretch holds users of its own, so the threads write to different rows
        self._threads.clear()
        started = time.perf_counter()
        side_by_side(users, groups(history, before, self._codec.length, _POSITIONS))
        elapsed, total = time.perf_counter() - started, sum(self._threads.values())
        for step, seconds in self._threads.items():  # steps overlap: each gets its share of the time that passed
            self.seconds[step] += elapsed * seconds / total
        put_rows(self._states, slots, history.states)
        self.seen += len(history.kept)

    def fresh(self) -> Replayer:
        """Another one of the same version, that knows no user yet."""
        return Replayer(self.serving, self._model, self._copies.recall_ms, self._label_delay_ms)

    def sees(self, table: TransactionTable) -> NDArray[np.float32]:
        """What the decisions on the next transactions would know of their merchants [N, S]; nothing is decided."""
        events, slots, _, history, _ = self._prepared(table, None)
        put_rows(self._states, slots, history.states)
        self.seen += len(events)
        return history.seller

    def _prepared(
        self, table: TransactionTable, risk: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.void], History, NDArray[np.bool_]]:
        """EVENT rows; rows and states of their users before; their history; which use an id again."""
        events = table.events(self.serving.schema, self.serving.risk if risk is None else risk, self.seen)
        slots = self._slots(np.unique(events["user"]))
        before = take_rows(self._states, slots)
        working = before.view(np.uint8).copy().view(before.dtype)  # as bytes: see take_rows
        copy, reused = self._copies.find(events, events["time_ms"] if table.received_ms is None else table.received_ms)
        if table.seller is not None:
            events["seller"] = table.seller
        history = prepare(events, self.serving.schema, self._codec.length, working, copy)
        if table.seller is None:
            told_ms = table.time_ms + self._label_delay_ms
            see_merchants(history, events, table.label, told_ms, self._merchants, table.received_ms)
        return events, slots, before, history, reused

    def _score(
        self,
        part: ContinuedHistory,
        encoded: EncodedHistory,
        events: NDArray[np.void],
        reused: NDArray[np.bool_],
        decision: NDArray[np.void],
    ) -> None:
        for own in np.array_split(np.arange(len(part.rows)), len(part.rows) // _ROWS + 1):
            if not len(own):
                continue
            request = score_request(part.history, encoded, own)
            known = part.history.history_len[own].astype(np.int64)
            expected = encoded.expected[np.maximum(encoded.place[own] - 1, 0)]
            everything = np.ones(len(own), np.bool_)
            made = make_decisions(
                events[part.rows[own]],
                request.features,
                self.serving.live,
                self._model.score(request),
                live=everything,
                current=everything,
                history_len=known,
                late=part.history.late[own],
                reused=reused[part.rows[own]],
                expected=code_array(np.where((known > 0)[:, None], expected, np.uint64(0))),
            )
            alerts = to_explain(made)
            if len(alerts):
                give_reasons(made, alerts, self._model.explain(take(request, alerts)))
            decision[part.rows[own]] = made

    def _slots(self, users: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Row of each user; room is made for newcomers."""
        slots = np.array([self._slot.setdefault(user, len(self._slot)) for user in users.tolist()], np.int64)
        missing = len(self._slot) - len(self._states)
        if missing > 0:
            room = max(missing, len(self._states) // 2)
            self._states = np.concatenate([self._states, self._codec.fresh(room)])
            self._cached = np.concatenate([self._cached, np.zeros((room, self._cached.shape[1]), np.float32)])
        return slots

    def forget_decisions(self) -> None:
        """Forget past decisions but keep the states, as seeding does: a repeated transaction is then decided anew."""
        self._copies.forget()

    def memory(self) -> dict[str, NDArray[Any]]:
        """All that is known, as arrays: what `restore` takes."""
        count = len(self._slot)
        users = np.fromiter(self._slot, np.uint64, count)  # in the order of their rows
        seen = np.array([self.seen])
        known = {"users": users, "states": self._states[:count], "cached": self._cached[:count], "seen": seen}
        return known | self._copies.memory() | self._merchants.memory()

    def restore(self, memory: dict[str, NDArray[Any]]) -> None:
        """Continue from where `memory` was taken."""
        self._slot = {int(user): row for row, user in enumerate(memory["users"].tolist())}
        self._states, self._cached = memory["states"], memory["cached"].astype(np.float32)
        self.seen = int(memory["seen"][0])
        self._copies.restore(memory)
        self._merchants.restore(memory)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - started

    @contextmanager
    def _in_thread(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        with self._clock:
            self._threads[step] += time.perf_counter() - started


def replay(table: TransactionTable, serving: ServingModel, model: PantherModel) -> Replayed:
    """Decide every transaction of `table` (arrival order) from empty states. Clock fields are the event's own time."""
    return Replayer(serving, model).decide(table)
