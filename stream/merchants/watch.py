"""Looks at the process of `panther merchants` once a second: its gauges, and what it lacks to be ready."""

from __future__ import annotations

import asyncio
from typing import Any

from panther_core.data.topics import MERCHANT_EVENTS
from stream.faust_parts.fetching import answered_ms, taken_in
from stream.faust_parts.internals import assigned, lags
from stream.ops import metrics
from stream.ops.health import Health
from stream.ops.stillness import Stillness
from stream.ops.summary import counted
from stream.worker.acker import Acker
from stream.worker.watch import Changes, gauge_stores


async def watch(app: Any, table: Any, acker: Acker, health: Health) -> None:
    """Run for the life of the agent."""
    still, changes = Stillness(), Changes()
    while True:
        missing, mine = dict[str, str](), assigned(app, MERCHANT_EVENTS)
        if not mine:
            missing["partitions"] = "no partition is assigned: the group is being joined, or has too many members"
        elif app.rebalancing:
            missing["states"] = f"{len(mine)} partitions are assigned and not restored yet"
        if unanswered := still.of_fetches(answered_ms(app, MERCHANT_EVENTS)):
            missing["Kafka"] = f"Kafka does not answer: no fetch of the partitions {unanswered} for some seconds"
        lag = lags(app, MERCHANT_EVENTS)
        done = sum(counted(metrics.MERCHANT_EVENTS).values())
        stuck = still.of_all(sum(lag.values()) + acker.unfinished, done)
        stuck = stuck or still.of_partitions(lag, taken_in(app, MERCHANT_EVENTS))
        if stuck and not app.rebalancing:
            missing["events"] = stuck
        gauge_stores(app, table, mine, lag)
        health.beat(list(missing.values()))
        changes.say(missing, f"{len(mine)} partitions of {MERCHANT_EVENTS}")
        await asyncio.sleep(1)
