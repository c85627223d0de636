"""`panther simulate`: what the loop of refreshes earns over never refreshing, with the gate and without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.loop.figures import TOP, Decided, days_to_recovery, figures, recall_at_top
from bench.loop.loop import Loop
from bench.loop.plan import Gate, Plan, Turn
from panther_core.base.times import DAY_MS
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable

NEVER = "never"


def simulate(
    table: TransactionTable,
    plan: Plan,
    gates: Sequence[Gate],
    out: Path,
    profile: tuple[ProfileField, ...] | None = None,
) -> dict[str, Any]:
    """Run the loop once for each gate, and compare with version 1 on the same payments.

    Figures without a policy's name, such as `promotions`, are of the first of `gates`. Raises BadInput where too little
    was known at the start, and for the folder of another plan or log.
    """
    table = table.take(slice(0, int(np.searchsorted(table.time_ms, plan.end_ms))))
    loop = Loop(table, plan, out, profile)
    loop.first()
    turns = {gate: loop.run(gate) for gate in gates}
    scores = {NEVER: loop.scores([])} | {f"gate {gate}": loop.scores(done) for gate, done in turns.items()}
    known = (table.label[loop.rows] >= 0) & np.isfinite(np.stack(list(scores.values()))).all(axis=0)
    rows = loop.rows
    decided = Decided(table.label[rows], table.user.index[rows], table.time_ms[rows], scores).take(known)
    anchor = plan.after_ms
    parts = {"before": decided.time_ms < anchor, "after": decided.time_ms >= anchor}
    found = {name: figures(decided.take(part), anchor, plan.seed) for name, part in parts.items()}
    mine = f"gate {gates[0]}"

    def recall(part: str, policy: str) -> float | None:
        return found[part]["policies"][policy]["recall_top_0.1pct"][0] if found[part] else None

    before = recall("before", NEVER) if plan.drift_ms is not None else None
    recovered = None
    if plan.drift_ms is not None and before:
        recovered = days_to_recovery(decided, mine, plan.drift_ms, before)
    return {
        "recall_of": f"the top {TOP:.1%} of each week's payments",
        "recall_before": before,
        "recall_after_without": recall("after", NEVER),
        "recall_after_with": recall("after", mine),
        "days_to_recovery": recovered,
        **of_turns(turns[gates[0]], plan),
        "turns": len(turns[gates[0]]),
        "gates": {gate: of_turns(done, plan) for gate, done in turns.items()},
        **found,
        "weeks": _weeks(decided, anchor),
        "seed": plan.seed,
    }


def of_turns(turns: Sequence[Turn], plan: Plan) -> dict[str, Any]:
    """What a policy's turns came to; `day`: since version 1 was trained."""
    return {
        "promotions": sum(turn.promoted for turn in turns),
        "refusals": [
            {"day": (turn.moment_ms - plan.start_ms) / DAY_MS, "why": "; ".join(turn.why)} for turn in turns if turn.why
        ],
        "rollbacks": sum(turn.rolled_back is not None for turn in turns),
    }


def _weeks(decided: Decided, anchor_ms: int) -> list[dict[str, Any]]:
    """Recall at the top and frauds of each week, for a curve over time; `day`: its first one, since the anchor."""
    out, week = [], (decided.time_ms - anchor_ms) // (7 * DAY_MS)
    for one in np.unique(week).tolist():
        here = decided.take(week == one)
        same, ones = np.zeros(len(here.label), np.int64), np.ones(len(here.label), np.int64)
        recalls = {name: recall_at_top(score, here.label, same, ones) for name, score in here.scores.items()}
        out.append({"day": 7 * one, "frauds": int(here.label.sum()), "recall": recalls})
    return out
