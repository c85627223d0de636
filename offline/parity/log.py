"""The transactions in the order in which the stream took them in, each with the place that its decision names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline.parity.online import Online
from offline.replay.topic import TopicLog
from panther_core.data.table import TransactionTable
from panther_core.kafka.answers import Position


@dataclass(frozen=True)
class StreamLog:
    """N transactions, each user's in arrival order, and the transactions before them (`past`), which are not compared.

    `place` is (partition, offset); the offset is -1 where neither the source nor a decision tells it.
    """

    table: TransactionTable
    place: list[Position]
    past: TransactionTable | None = None

    def __len__(self) -> int:
        return len(self.table)


def from_topic(source: TopicLog, online: Online, with_past: bool) -> StreamLog:
    """All transactions of a topic. `with_past`: those before a partition's first decision are the past."""
    place = list(zip(source.partition.tolist(), source.offset.tolist(), strict=True))
    if not with_past:
        return StreamLog(source.table, place)
    first: dict[int, int] = {}
    for partition, offset in online.decisions:
        first[partition] = min(offset, first.get(partition, offset))
    # a partition without any decision is all past
    past = np.array([partition not in first or offset < first[partition] for partition, offset in place])
    live = np.flatnonzero(~past)
    return StreamLog(source.table.take(live), [place[row] for row in live], source.table.take(np.flatnonzero(past)))


def from_table(table: TransactionTable, online: Online, past: TransactionTable | None = None) -> StreamLog:
    """A data set in the order that the decisions' places give; a row that was sent twice stands twice.

    Rows without a decision stand after what the user had before them in the file.
    """
    places: dict[str, list[Position]] = {}
    for place, decision in online.decisions.items():
        places.setdefault(decision.transaction_id, []).append(place)
    before: dict[int, tuple[int, float]] = {}  # user -> place of the last row
    rows: list[int] = []
    order: list[tuple[int, float]] = []
    known: list[Position] = []
    for row, (transaction, user) in enumerate(
        zip(table.transaction_id.tolist(), table.user.index.tolist(), strict=True)
    ):
        found = places.get(transaction, [])
        for place in found:
            rows.append(row)
            order.append(place)
            known.append(place)
        if not found:
            partition, offset = before.get(user, (-1, -1.0))
            rows.append(row)
            order.append((partition, offset + 0.5))
            known.append((partition, -1))
        before[user] = max(order[-max(1, len(found)) :])
    at = np.lexsort((np.array([offset for _, offset in order]), np.array([partition for partition, _ in order])))
    return StreamLog(table.take(np.array(rows, np.intp)[at]), [known[i] for i in at], past)
