"""Looks at one worker once a second: sets the gauges, and tells its health what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from panther_core.data.topics import MODELS, TRANSACTIONS
from stream.faust_parts.internals import assigned, lags, open_stores, standbys
from stream.ops import metrics
from stream.ops.health import Health
from stream.worker.acker import Acker
from stream.worker.live_models import LiveModels

_EVERY_S = 1.0
_BYTES = {"files": "rocksdb.total-sst-files-size", "memory": "rocksdb.cur-size-all-mem-tables"}


class Watch:
    """Reads values this process already holds (lag, store sizes, live version); it makes no network call."""

    def __init__(
        self,
        app: Any,
        table: Any,
        models: LiveModels,
        acker: Acker,
        health: Health,
        server_problem: Callable[[], str | None],
    ) -> None:
        self._app, self._table, self._models, self._acker = app, table, models, acker
        self._health, self._server_problem = health, server_problem
        self._rebalances = 0

    async def run(self, queue: asyncio.Queue[Any]) -> None:
        """Run for the life of the agent; `queue` holds the agent's events that wait to be taken in."""
        while True:
            metrics.EVENTS_WAITING.labels("queue").set(queue.qsize())
            metrics.EVENTS_WAITING.labels("worker").set(self._acker.unfinished)
            self._health.beat(self._look())
            await asyncio.sleep(_EVERY_S)

    def _look(self) -> list[str]:
        """Set the gauges; returns what keeps this worker from serving."""
        mine, model = assigned(self._app, TRANSACTIONS), self._models.now
        restored = not self._app.rebalancing
        metrics.PARTITIONS.labels("assigned").set(len(mine))
        metrics.PARTITIONS.labels("ready").set(len(mine) if restored else 0)
        metrics.PARTITIONS.labels("standby").set(standbys(self._app, self._table))
        metrics.REBALANCES.inc(self._app.rebalancing_count - self._rebalances)
        self._rebalances = self._app.rebalancing_count
        metrics.CONSUMER_LAG.clear()  # forgets partitions that have moved to another worker
        for partition, lag in lags(self._app, TRANSACTIONS).items():
            metrics.CONSUMER_LAG.labels(partition).set(lag)
        stores = open_stores(self._table)
        for kind, name in _BYTES.items():
            metrics.STATE_BYTES.labels(kind).set(sum(store.property_int_value(name) or 0 for store in stores))
        metrics.MODEL_VERSION.set(model.live.version if model else 0)
        missing = []
        if not mine:
            missing.append("no partition is assigned: the group is being joined, or has more workers than partitions")
        elif not restored:
            missing.append(f"{len(mine)} partitions are assigned and not restored yet")
        if model is None:
            missing.append(f"no model is live: `panther models promote` announces one on topic {MODELS}")
        if problem := self._server_problem():
            missing.append(problem)
        return missing
