"""The troubled stream of `panther bench parity` and of the end-to-end test of parity; a replay must equal it.

It has redeliveries soon and late, late events, labels that arrive, a second worker that joins under load and leaves, a
model version that takes over in the middle, and kill -9 of a worker and of the process that keeps merchants.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from infra.local.system import System
from panther_core.base.console import say
from panther_core.base.times import HOUR_MS
from panther_core.data.events import Transaction
from panther_core.data.table import TransactionTable
from stream.tools.ledger import LedgerReader
from stream.tools.produce import produce, produce_labels

_LATE_SHARE, _NEAR_SHARE, _FAR_SHARE = 0.02, 0.01, 0.002
_AT = (0.10, 0.30, 0.45, 0.60, 0.80)  # shares of the transactions after which each act on the system begins
_MEANWHILE = 0.10  # share sent during an act; sending then waits for its end, so that the next acts have load too
_PATIENCE_S = 120.0
_LABEL_DELAY_MS = HOUR_MS


def with_redeliveries(table: TransactionTable, seed: int) -> list[Transaction]:
    """The rows in sending order: some late, some sent again soon, some sent again after a while."""
    rng = np.random.default_rng(seed)
    count, users = len(table), len(np.unique(table.user.index))
    place = np.arange(count, dtype=np.float64)
    late = rng.random(count) < _LATE_SHARE
    place[late] += rng.integers(1, 2 * users, int(late.sum()))  # behind one or two later events of the same user
    near, far = rng.random(count) < _NEAR_SHARE, rng.random(count) < _FAR_SHARE
    rows = np.r_[np.arange(count), np.flatnonzero(near), np.flatnonzero(far)]
    # the state remembers the last 8 decisions: a redelivery after more is a new transaction, online and in replay
    places = np.r_[place, place[near] + rng.integers(1, 30, int(near.sum())), place[far] + 12 * users]
    return list(table.take(rows[np.argsort(places, kind="stable")]).rows())


@dataclass
class Troubles:
    """The acts on the system while transactions are sent; each begins after a share of the decisions."""

    system: System
    total: int
    done: list[str] = field(default_factory=list)
    decided: Callable[[], int] = lambda: 0

    def run(self, stop: threading.Event) -> None:
        """Do each act in its turn; ends early when `stop` is set."""
        acts: tuple[tuple[str, Callable[[], object]], ...] = (
            ("a second worker joins", self._join),
            ("the second worker leaves", self._leave),
            ("version 2 takes over", lambda: self.system.deploy(2)),
            ("the process that keeps merchants is killed", self._kill_merchants),
            ("a worker is killed", self._kill),
        )
        for share, (name, act) in zip(_AT, acts, strict=True):
            while self.decided() < share * self.total:
                if stop.wait(0.1):
                    return
            say(f"  {name} after {self.decided()} decisions")
            act()
            self.done.append(name)

    def _join(self) -> None:
        self.system.start_worker("second")
        deadline = time.monotonic() + _PATIENCE_S
        while self.system.members() < 2 and time.monotonic() < deadline:
            time.sleep(0.2)

    def _leave(self) -> None:
        self.system.workers.pop("second").stop()

    def _kill_merchants(self) -> None:
        self.system.kill_worker("merchants")
        time.sleep(0.5)
        self.system.start_merchants()

    def _kill(self) -> None:
        self.system.kill_worker()
        time.sleep(0.5)
        self.system.start_worker()


def send_with_troubles(
    system: System, transactions: list[Transaction], rate: float, labelled: TransactionTable
) -> list[str]:
    """Send everything at `rate` during the acts; returns the names of the acts once all transactions are decided.

    `labelled`: the rows behind the transactions, whose labels are sent in their order meanwhile.
    """
    troubles, stop = Troubles(system, len(transactions)), threading.Event()

    async def go() -> None:
        async with LedgerReader(system.kafka) as reader:
            ledger = reader.ledger
            troubles.decided = lambda: len(ledger.decisions) + ledger.repeated
            wanted = {t.transaction_id for t in transactions}
            sender = asyncio.create_task(_send(system, transactions, rate, troubles, acting, labelled))
            deadline, quiet = time.monotonic() + len(transactions) / rate + _PATIENCE_S, 0
            while time.monotonic() < deadline and quiet < 10:
                quiet = 0 if await reader.poll() else quiet + 1
                if not sender.done() or not wanted <= ledger.decisions.keys() or not acting.done():
                    quiet = 0
            await sender

    with ThreadPoolExecutor(1) as threads:
        acting = threads.submit(troubles.run, stop)
        try:
            asyncio.run(go())
        finally:
            stop.set()
        acting.result()
    return troubles.done


async def _send(
    system: System,
    transactions: list[Transaction],
    rate: float,
    troubles: Troubles,
    acting: Future[None],
    labelled: TransactionTable,
) -> None:
    """Send everything at `rate`, and pause where an act on the system takes longer than its share of the load. The
    labels of what was sent between two acts come between the next two."""
    bounds = [0, *(round((at + _MEANWHILE) * len(transactions)) for at in _AT), len(transactions)]
    told = 0
    for turn, (low, high) in enumerate(pairwise(bounds)):
        due = labelled.take(slice(told, low))
        told, after_s = low, np.linspace(0, (high - low) / rate, len(due))
        labels = produce_labels(system.kafka, due, _LABEL_DELAY_MS, after_s)
        await asyncio.gather(produce(system.kafka, transactions[low:high], rate), labels)
        while len(troubles.done) <= turn < len(_AT) and not acting.done():  # noqa: ASYNC110 - a thread is waited for
            await asyncio.sleep(0.1)
