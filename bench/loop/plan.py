"""What a simulated loop is asked for, and what it has done: its plan, its turns, and the folder that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bench.results import FinishedRun, data_key
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.base.times import DAY_MS
from panther_core.data.schema import hash64
from panther_core.data.table import TransactionTable

Gate = Literal["on", "off"]
FIRST = "0"
"""The name of version 1. A version that turn 3 trained from it is 0-3, one that turn 5 trained from that is 0-3-5."""


class Plan(msgspec.Struct, frozen=True):
    """When the loop runs over a log. Times are epoch ms, of the log's own clock.

    Raises BadInput for times out of order.
    """

    start_ms: int
    """Version 1 is trained on what was known then, and decides from then on."""
    end_ms: int
    every_ms: int
    """From turn to turn."""
    label_delay_ms: int
    drift_ms: int | None = None
    first: str = "demo"
    """Preset of version 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.start_ms + self.every_ms < self.end_ms:
            raise BadInput(
                "expected a log that goes on for longer than one turn after the first training, got "
                f"{(self.end_ms - self.start_ms) / DAY_MS:.1f} days: more days, or a smaller --every or --first-days"
            )
        if self.drift_ms is not None and not self.start_ms < self.drift_ms < self.end_ms:
            raise BadInput("expected the drift after the first training and before the log's end: another --days")

    @property
    def moments(self) -> range:
        """Of version 1's training, then of each turn."""
        return range(self.start_ms, self.end_ms, self.every_ms)

    @property
    def after_ms(self) -> int:
        """From when on the policies are compared: the drift, or else the first turn."""
        return self.start_ms + self.every_ms if self.drift_ms is None else self.drift_ms


class Turn(FinishedRun, frozen=True, kw_only=True):
    """A turn of one policy, as a line of `runs.jsonl`. Versions have the names that FIRST explains."""

    number: int
    gate: Gate
    moment_ms: int
    champion: str
    challenger: str | None
    """None where there was nothing to train on."""
    promoted: bool
    why: list[str]
    """Why the gate refused, or why nothing was trained."""
    rolled_back: str | None
    """The version that the watch took back before this turn trained."""
    watched: str | None
    """What the watch found, in a sentence."""
    led: list[str]
    """The versions that led to the live one, which is the last, after the turn."""
    checks: list[dict[str, Any]]


def check_folder(out: Path, plan: Plan, table: TransactionTable) -> str:
    """Write plan.json into `out`, or compare it with the one there; returns the plan's key. Raises BadInput where they
    differ."""
    mine = {"plan": msgspec.to_builtins(plan), "data": data_key(table), "transactions": len(table)}
    text, note = msgspec.json.format(msgspec.json.encode(mine), indent=1), out / "plan.json"
    if not note.exists():
        out.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as part:
            part.write_bytes(text)
    elif note.read_bytes() != text:
        raise BadInput(
            f"expected turns of this plan and log in {out}, got those of others: another --out, or remove it"
        )
    return str(mine["data"])


def generated(users: int, first_days: int, days: int, seed: int) -> dict[str, Any]:
    """Fields of GeneratorConfig for a log of `first_days` and then `days`, halfway through which the world drifts."""
    return {
        "users": users,
        "days": first_days + days,
        "seed": seed,
        "drift_day": first_days + days // 2,
        "mean_transactions_per_day": 1.3,  # so that more users, and with them victims, fit into a run
    }


def some_users(table: TransactionTable, count: int) -> TransactionTable:
    """The payments of `count` users, the same ones whenever they are chosen; of all where there are fewer."""
    hashes = np.array([hash64(word) for word in table.user.words], np.uint64)
    there = np.unique(table.user.index)
    chosen = there[np.argsort(hashes[there], kind="stable")[:count]]
    return table.take(np.flatnonzero(np.isin(table.user.index, chosen)))
