"""The alert budget is kept: the threshold of the live version moves with the scores that there are, slowly and visibly.

Each move is a record on `models.updates`, which workers take, and which a parity report replays.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import msgspec
import numpy as np

from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.odds import log_odds, sigmoid
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, now_ms
from panther_core.kafka.updates import updates
from panther_core.report.curves import Floats
from trainer.rollout.announce import folder_of, send
from trainer.rollout.decided import decisions_since

_STEP = 0.25  # nats of the log odds that a move has at most
_CLOSE = 1.25  # times the budget, up or down, that is left alone
_LEAST = 20  # alerts that the budget allows in what is looked at, from which on it can be told whether it is kept
_Z = 2.0  # standard errors beyond which a share is not by chance


class Budget(msgspec.Struct, frozen=True):
    """How the alert budget is kept: shares of the `decisions` looked at. `moved_to`: the new threshold, if it moved."""

    version: int
    decisions: int
    budget: float
    alert_share: float
    threshold: float
    moved_to: float | None
    why: str


def next_threshold(scores: Floats, threshold: float, budget: float) -> tuple[float | None, str]:
    """Where the threshold goes after these scores [N], None where it stays; and why."""
    wanted, count = budget * len(scores), int((scores >= threshold).sum())
    if wanted < _LEAST:
        return None, f"{len(scores)} decisions are too few to tell: the budget allows {wanted:.1f} alerts in them"
    said = f"{count} alerts in {len(scores)} decisions, where the budget allows {wanted:.0f}"
    by_chance = _Z * math.sqrt(wanted)
    if wanted / _CLOSE - by_chance <= count <= wanted * _CLOSE + by_chance:
        return None, f"{said}: kept"
    odds = log_odds(np.sort(scores))
    # a threshold above all scores begins at the highest one, or it would take days to come down to it
    begin = min(float(log_odds(np.array([threshold]))[0]), float(odds[-1]))
    aim = float(np.quantile(odds, 1 - budget))
    moved = float(sigmoid(np.array([begin + float(np.clip(aim - begin, -_STEP, _STEP))]))[0])
    if count < wanted and (then := int((scores >= moved).sum())) > wanted * _CLOSE + by_chance:
        return None, f"{said}; the next lower threshold has {then}, since so many scores are the same"
    return (None, f"{said}, and no threshold has fewer") if moved == threshold else (moved, said)


def keep_budget(kafka: KafkaSettings, settings: PantherSettings, days: float = 1.0) -> Budget:
    """Look at the live version's decisions of the last `days`, and move its threshold one step where it alerts on
    beyond 1.25 times its budget, or below it, by more than chance.

    Raises BadInput where no version is live, and where another one goes live at this moment.
    """
    history = asyncio.run(updates(kafka))
    if not history:
        raise BadInput("expected a live version, found none: `panther models promote` one first")
    live = history[-1]
    budget = load_manifest(folder_of(live, Path(settings.models_dir))).alert_budget

    async def decided() -> Floats:
        async with decisions_since(kafka, settings.app_id, now_ms() - round(days * DAY_MS)) as decisions:
            rows = await decisions.so_far()
            out: Floats = rows["score"][rows["version"] == live.version]
            return out

    scores = asyncio.run(decided())
    moved, why = next_threshold(scores, live.threshold, budget)
    if moved is not None:
        update = msgspec.structs.replace(
            live, threshold=moved, instead_of=live.version, why=f"alert budget: {why}; was {live.threshold:.4f}"
        )
        asyncio.run(send(kafka, update))
    share = float((scores >= live.threshold).mean()) if len(scores) else 0.0
    return Budget(live.version, len(scores), budget, share, live.threshold, moved, why)
