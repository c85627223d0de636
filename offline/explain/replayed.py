"""A user's view from a log. Only the user's own events are decided: no state of a user depends on another user. What is
known of the merchants does, and is computed from all events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from offline.explain.view import UserView, shown_decision
from offline.replay.replayer import Replayer
from panther_core.base.errors import BadInput
from panther_core.data.decision import Reason
from panther_core.data.formats import read
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.decide.reasons import expected_of, reasons_of


def view_of_log(replayer: Replayer, path: Path, format: str, user: str, at_ms: int | None, events: int = 8) -> UserView:
    """The user's last `events` transactions up to `at_ms` (None: to the log's end). Raises BadInput for none."""
    table = user_log(path, format, user, at_ms, replayer.fresh())
    decided = replayer.decide(table)
    rows = np.flatnonzero(decided.kept)[-events:]
    schema = replayer.serving.schema
    shown = [
        shown_decision(
            decided.decision[row],
            schema,
            datetime.fromtimestamp(int(table.time_ms[row]) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            _came(table, row),
            str(table.transaction_id[row]),
            int(table.label[row]),
            _reasons(table, decided.decision[row], row),
        )
        for row in rows.tolist()
    ]
    after = replayer.memory()["states"]["expected"][0]
    version = replayer.serving.live.version
    return UserView(
        user_id=user,
        source=f"replay of {path.name}",
        model=f"version {version}",
        events=shown,
        next=expected_of(after, schema),
    )


def _reasons(table: TransactionTable, decision: np.void, row: int) -> list[Reason]:
    seller = None if table.seller is None else table.seller[row]
    return reasons_of(decision["reason"], decision["contribution"], seller, int(table.time_ms[row]))


def user_log(
    path: Path, format: str, user: str, at_ms: int | None, everybody: Replayer | None = None
) -> TransactionTable:
    """The user's transactions up to `at_ms`, with what `everybody` sees of their merchants.

    Raises BadInput for none.
    """
    parts, first_ms = [], None
    for table in read(format, path):
        first_ms = int(table.time_ms[0]) if first_ms is None else first_ms
        if at_ms is not None and table.time_ms[0] > at_ms:
            break
        seller = None if everybody is None else everybody.sees(table)
        if user not in table.user.words:
            continue
        own = table.user.index == table.user.words.index(user)
        if at_ms is not None:
            own &= table.time_ms <= at_ms
        parts.append(replace(table, seller=seller).take(np.flatnonzero(own)))
    if not any(len(part) for part in parts):
        until = "" if at_ms is None else f" up to {datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise BadInput(f"{path}: expected transactions of the user asked for{until}, found none: check USER and --at")
    return concat(parts)


def _came(table: TransactionTable, row: int) -> str:
    words = (table.category[row], table.channel[row], f"{table.amount[row]:,.2f}", table.merchant[row])
    return ", ".join(word for word in words if word)
