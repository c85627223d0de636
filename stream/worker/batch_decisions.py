"""What one micro-batch has decided, until it is stored: for copies, and for labels that come later."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import REUSED
from stream.worker.decided import DecidedStore, HeldAnswer
from stream.worker.intake import Intake
from stream.worker.paid import PREFIX, paid_pairs
from stream.worker.state_store import StateStore


@dataclass
class BatchDecisions:
    """The decisions of one micro-batch: what was known before, and what is to be held afterwards."""

    intake: Intake
    keys: list[bytes]  # of the events among held decisions
    sellers: list[tuple[int, int]]  # place of what is known of each event's merchant
    sellers_as_of: list[int]  # from which hour on it holds, epoch ms
    held: dict[int, HeldAnswer] = field(default_factory=dict)
    at: list[int] = field(default_factory=list)  # events with a new decision
    rows: list[NDArray[np.void]] = field(default_factory=list)  # the decisions, DECISION
    ratios: list[NDArray[np.float32]] = field(default_factory=list)  # amounts over what is usual
    alerts: list[bytes] = field(default_factory=list)  # their alerts, b"" for none

    def alert_before(self, event: int) -> bytes:
        """The alert that was published with the decision that the event gets again; b"" for none."""
        held = self.held.get(event)
        return held.alert if held is not None and held.decision.same else b""

    def paid(self, store: StateStore) -> dict[int, list[tuple[bytes, bytes]]]:
        """The payments, by partition, as they are kept until their labels come."""
        if not self.at:
            return {}
        intake, at, out = self.intake, np.array(self.at), dict[int, list[tuple[bytes, bytes]]]()
        reused = (np.concatenate(self.rows)["flags"] & REUSED > 0).tolist()
        pairs = paid_pairs(
            [self.keys[i] for i in self.at],
            ["" if twice else intake.transactions[i].merchant_id for i, twice in zip(self.at, reused, strict=True)],
            intake.events["time_ms"][at],
            intake.received_ms[at],
            np.concatenate(self.ratios),
            store.beside([PREFIX + self.keys[i] for i in self.at], [intake.records[i].partition for i in self.at]),
        )
        for i, pair in zip(self.at, pairs, strict=True):
            out.setdefault(intake.records[i].partition, []).append(pair)
        return out

    def hold(self, store: DecidedStore) -> None:
        """Hold the new decisions, which are durable by now."""
        if self.at:
            partitions = [self.intake.records[i].partition for i in self.at]
            rows = self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows)
            intake = self.intake
            store.put(intake.events, intake.received_ms, self.keys, np.array(self.at), rows, partitions, self.alerts)
