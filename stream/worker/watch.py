"""Looks at one worker once a second: sets the gauges, tells its health what is missing, and says changes in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sized
from typing import Any

from panther_core.data.topics import MODELS, TRANSACTIONS
from stream.faust_parts.fetching import answered_ms, taken_in
from stream.faust_parts.internals import assigned, lags, open_stores, standbys
from stream.ops import metrics
from stream.ops.flood import DeadLetterNotice
from stream.ops.health import Health
from stream.ops.stillness import Stillness
from stream.ops.summary import Summary, done
from stream.worker.acker import Acker
from stream.worker.live_models import LiveModels
from stream.worker.pipeline import Waiting
from stream.worker.risk_book import RiskBook
from stream.worker.source_log import SourceLog

logger = logging.getLogger(__name__)

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
        source: SourceLog,
        waiting: Waiting,
        health: Health,
        server_problem: Callable[[], str | None],
        notice: DeadLetterNotice,
        book: RiskBook,
    ) -> None:
        self._app, self._table, self._models, self._acker = app, table, models, acker
        self._source, self._waiting, self._notice, self._book = source, waiting, notice, book
        self._health, self._server_problem = health, server_problem
        self._rebalances = 0
        self._still, self._summary, self._changes = Stillness(), Summary(), Changes()

    async def run(self, queue: asyncio.Queue[Any]) -> None:
        """Run for the life of the agent; `queue` holds the agent's events that wait to be taken in."""
        while True:
            metrics.EVENTS_WAITING.labels("queue").set(queue.qsize())
            metrics.EVENTS_WAITING.labels("worker").set(self._acker.unfinished)
            metrics.HOT_USERS.set(self._waiting.hot())
            lag = self._gauges()
            missing = self._missing(lag, queue.qsize() + self._acker.unfinished)
            self._health.beat(list(missing.values()))
            model = self._models.now
            self._changes.say(missing, f"{len(lag)} partitions, model version {model.live.version if model else 0}")
            self._notice.tell()
            if line := self._summary.line(sum(lag.values())):
                logger.info(line)
            await asyncio.sleep(_EVERY_S)

    def _gauges(self) -> dict[int, int]:
        """Set the gauges; returns the lag of each partition."""
        mine, model = assigned(self._app, TRANSACTIONS), self._models.now
        metrics.REBALANCES.inc(self._app.rebalancing_count - self._rebalances)
        self._rebalances = self._app.rebalancing_count
        lag = lags(self._app, TRANSACTIONS)
        gauge_stores(self._app, self._table, mine, lag)
        metrics.MODEL_VERSION.set(model.live.version if model else 0)
        return lag

    def _missing(self, lag: dict[int, int], in_hand: int) -> dict[str, str]:
        """What keeps this worker from deciding with the live model, by a short name of it."""
        mine, missing = assigned(self._app, TRANSACTIONS), dict[str, str]()
        if not mine:
            missing["partitions"] = (
                "no partition is assigned: the group is being joined, or has more workers than partitions"
            )
        elif self._app.rebalancing:
            missing["states"] = f"{len(mine)} partitions are assigned and not restored yet"
        if problem := self._source.problem:
            missing["held decisions"] = problem
        if problem := self._book.problem:
            missing["merchants"] = problem
        if behind := self._models.problem:
            missing["model"] = behind
        elif self._models.now is None:
            missing["model"] = f"no model is live: `panther models promote` announces one on topic {MODELS}"
        if problem := self._server_problem():
            missing["model server"] = problem
        if unanswered := self._still.of_fetches(answered_ms(self._app, TRANSACTIONS)):
            missing["Kafka"] = f"Kafka does not answer: no fetch of the partitions {unanswered} for some seconds"
        still = self._still.of_all(sum(lag.values()) + in_hand, done())
        stuck = self._still.of_partitions(lag, taken_in(self._app, TRANSACTIONS))
        if not self._app.rebalancing and (problem := still or stuck):
            missing["decisions"] = problem
        return missing


def gauge_stores(app: Any, table: Any, mine: Sized, lag: Mapping[int, int]) -> None:
    """Set the gauges of an application's partitions, of their lag, and of its stores."""
    metrics.PARTITIONS.labels("assigned").set(len(mine))
    metrics.PARTITIONS.labels("ready").set(0 if app.rebalancing else len(mine))
    metrics.PARTITIONS.labels("standby").set(standbys(app, table))
    metrics.CONSUMER_LAG.clear()  # forgets partitions that have moved to another process
    for partition, behind in lag.items():
        metrics.CONSUMER_LAG.labels(partition).set(behind)
    stores = open_stores(table)
    for kind, name in _BYTES.items():
        metrics.STATE_BYTES.labels(kind).set(sum(store.property_int_value(name) or 0 for store in stores))


class Changes:
    """Says in the log what a worker lacks when it begins to lack it, and when it is ready (again)."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}
        self._was_ready: bool | None = None

    def say(self, missing: dict[str, str], ready: str) -> None:
        """Compare with what was missing a moment ago; `ready`: what the worker has when it lacks nothing."""
        for what in missing.keys() - self._missing.keys():
            logger.log(logging.WARNING if self._was_ready else logging.INFO, "not ready: %s", missing[what])
        for what in self._missing.keys() - missing.keys():
            if missing:
                logger.info("no longer missing: %s", what)
        if not missing and (self._missing or self._was_ready is None):
            logger.info("ready: %s", ready)
        self._was_ready = self._was_ready or not missing
        self._missing = missing
