"""Moves users to the live model version in the background, a few at a time, so that the old one can be unloaded.

Users who have events move by themselves. The sweep takes the agent's lock for one small step at a time: states are
read and written by nobody else meanwhile, and a micro-batch waits for one step at most.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np

from panther_core.engine import encode_request, take_outputs
from panther_core.errors import ScorerUnavailable
from panther_core.events import ModelProgress
from panther_core.schema import hash64
from panther_core.scoring import Scorer
from panther_core.topics import TRANSACTIONS
from stream import metrics
from stream.faust_internals import Acker, Written, partition_store
from stream.live_models import LiveModels, ServingModel
from stream.processor import Processor, now_ms

logger = logging.getLogger(__name__)

_EVERY_S = 0.1
_SCAN = 1000  # states looked at in one step: some milliseconds


class Sweep:
    """One worker's sweep over the partitions it holds, once for each version that goes live."""

    def __init__(
        self, app: Any, table: Any, models: LiveModels, scorer: Scorer, processor: Processor, users_per_s: float
    ) -> None:
        self._app, self._table, self._models = app, table, models
        self._scorer, self._processor = scorer, processor
        self._step = max(1, round(users_per_s * _EVERY_S))
        self._app_id = app.conf.id
        self._pass: tuple[int, int] | None = None  # version and generation of the pass under way, or done
        self._left: list[int] = []  # partitions still to be looked at
        self._cursor = b""

    async def run(self, lock: asyncio.Lock, acker: Acker) -> None:
        """Run for the life of the agent."""
        while True:
            await asyncio.sleep(_EVERY_S)
            model = self._models.now
            if model is None or self._app.rebalancing:
                continue
            self._begin(model)
            if self._left:
                async with lock:
                    await self._move_some(model, acker)

    def _begin(self, model: ServingModel) -> None:
        now = (model.live.version, self._app.consumer_generation_id)
        if now == self._pass:
            return
        parts = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == TRANSACTIONS}
        self._pass, self._left, self._cursor = now, sorted(parts), b""

    async def _move_some(self, model: ServingModel, acker: Acker) -> None:
        if self._app.rebalancing or self._pass != (model.live.version, self._app.consumer_generation_id):
            return
        partition, before = self._left[0], self._cursor
        keys, values, self._cursor = self._behind(partition, model)
        if keys:
            states = model.codec.decode(list(values))
            users = np.array([hash64(key.decode()) for key in keys], np.uint64)
            try:
                answer = await self._scorer.encode(encode_request(states, users), model.live.version)
            except ScorerUnavailable:
                self._cursor = before  # the same ones again
                return
            take_outputs(states, answer, model.live.version)
            written = Written(self._app.consumer_generation_id, [])
            if self._app.rebalancing or self._pass != (model.live.version, written.generation):
                return  # the partition may be another worker's by now
            await self._processor.write(keys, [partition] * len(keys), states, model, written)
            await acker.put(written)
            metrics.SWEPT.inc(len(keys))
        if self._cursor:
            return
        self._left.pop(0)
        # states first, then the news: what is sent to the changelog before is durable with it
        await self._processor.report(
            ModelProgress(app_id=self._app_id, partition=partition, version=model.live.version, moved_at=now_ms())
        )
        if not self._left:
            logger.info("every user of this worker's partitions is on model version %d", model.live.version)

    def _behind(self, partition: int, model: ServingModel) -> tuple[list[bytes], list[bytes], bytes]:
        """The next users who are not on the live version, and where to go on; b"" at the end of the partition."""
        keys: list[bytes] = []
        values: list[bytes] = []
        size, own = model.codec.dtype.itemsize, self._table.data.offset_key
        start = {"from_key": self._cursor} if self._cursor else {}
        for seen, (key, value) in enumerate(partition_store(self._table, partition).items(**start)):
            if len(keys) >= self._step or seen >= _SCAN:
                return keys, values, key
            if key != own and len(value) == size:
                state = np.frombuffer(value, model.codec.dtype)
                if state["n"][0] and (
                    state["model_version"][0] != model.live.version or state["cached_n"][0] != state["n"][0]
                ):
                    keys.append(key)
                    values.append(value)
        return keys, values, b""
