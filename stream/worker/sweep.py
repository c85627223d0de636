"""Moves users to the live model version in the background, a few at a time, so that the old one can be unloaded.

Users who have events move at their next event, and the sweep begins when those who pay often have had one. For all
others it claims the users of one small step from the pipeline, so that nobody else reads or writes their states
meanwhile; their events wait for that step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import numpy as np

from panther_core.base.errors import ScorerUnavailable
from panther_core.base.times import now_ms
from panther_core.data.events import ModelProgress
from panther_core.data.schema import hash64
from panther_core.data.topics import TRANSACTIONS
from panther_core.decide.engine import encode_request, take_outputs
from panther_core.decide.scoring import Scorer
from panther_core.serving_model import ServingModel
from stream.faust_parts.internals import partition_store
from stream.faust_parts.recovery import noticing_damage
from stream.ops import metrics
from stream.worker.acker import Acker
from stream.worker.live_models import LiveModels
from stream.worker.pipeline import Pipeline
from stream.worker.state_store import StateStore, StoredBatch

logger = logging.getLogger(__name__)

_EVERY_S = 0.1
_AFTER_S = 10.0  # a switch, which is at work itself until then
_FIRST = b"\x01"  # no user's key is smaller: before it lies what is kept beside the states
_SCAN = 1000  # states looked at in one step: some milliseconds


class VersionSweep:
    """One worker's sweep over the partitions it holds, once for each version that goes live."""

    def __init__(
        self,
        app: Any,
        table: Any,
        models: LiveModels,
        scorer: Scorer,
        store: StateStore,
        pipeline: Pipeline,
        acker: Acker,
        users_per_s: float,
    ) -> None:
        self._app, self._table, self._models, self._scorer = app, table, models, scorer
        self._store, self._pipeline, self._acker = store, pipeline, acker
        self._step = max(1, round(users_per_s * _EVERY_S))
        self._app_id = app.conf.id
        self._pass: tuple[int, int] | None = None  # version and generation of the pass under way, or done
        self._from_s = 0.0  # by time.monotonic: the pass may begin
        self._left: list[int] = []  # partitions still to be looked at
        self._cursor = b""

    async def run(self) -> None:
        """Run for the life of the agent."""
        while True:
            await asyncio.sleep(_EVERY_S)
            model = self._models.now
            if model is None or self._app.rebalancing:
                continue
            self._begin(model)
            if self._left and time.monotonic() >= self._from_s:
                await self._move_some(model)

    def _begin(self, model: ServingModel) -> None:
        now = (model.live.version, self._app.consumer_generation_id)
        if now == self._pass:
            return
        parts = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == TRANSACTIONS}
        if self._pass is not None and self._pass[0] != model.live.version:
            self._from_s = time.monotonic() + _AFTER_S
        self._pass, self._left, self._cursor = now, sorted(parts), _FIRST

    async def _move_some(self, model: ServingModel) -> None:
        """One step. Users who are being worked on are left out: their own event moves them."""
        if self._app.rebalancing or self._pass != (model.live.version, self._app.consumer_generation_id):
            return
        partition, before = self._left[0], self._cursor
        with noticing_damage(self._table, partition):
            found, self._cursor = self._behind(partition, model)
        free = self._pipeline.claim(found)
        try:
            moved = await self._move({key: found[key] for key in free}, partition, model)
            if not moved or len(free) < len(found):
                self._cursor = before  # look at the same stretch again: users who have moved are no longer behind
                return
        finally:
            self._pipeline.release(free)
        if self._cursor:
            return
        self._left.pop(0)
        self._cursor = _FIRST
        # sent after the states through the same producer, so that the states are durable once the report can be read
        await self._store.report(
            ModelProgress(app_id=self._app_id, partition=partition, version=model.live.version, moved_at=now_ms())
        )
        if not self._left:
            logger.info("every user of this worker's partitions is on model version %d", model.live.version)

    async def _move(self, found: dict[bytes, bytes], partition: int, model: ServingModel) -> bool:
        """Encode these users' states with `model` and store them; False when that has to be tried again."""
        if not found:
            return True
        states = model.codec.decode(list(found.values()))
        users = np.array([hash64(key.decode()) for key in found], np.uint64)
        try:
            answer = await self._scorer.ask(encode_request(states, users), model.live.version)
        except ScorerUnavailable:
            return False
        take_outputs(states, answer, model.live.version)
        batch = StoredBatch(self._app.consumer_generation_id, [])
        if self._app.rebalancing or self._pass != (model.live.version, batch.generation):
            return False  # the partition may be another worker's by now
        await self._store.write(list(found), [partition] * len(found), states, model.codec, batch)
        await self._acker.put(batch)
        metrics.SWEPT.inc(len(found))
        return True

    def _behind(self, partition: int, model: ServingModel) -> tuple[dict[bytes, bytes], bytes]:
        """The next users who are not on the live version, and where to go on; b"" at the end of the partition."""
        found: dict[bytes, bytes] = {}
        codec, own = model.codec, self._table.data.offset_key
        for seen, (key, value) in enumerate(partition_store(self._table, partition).items(from_key=self._cursor)):
            if len(found) >= self._step or seen >= _SCAN:
                return found, key
            if key != own and len(value) in codec.sizes:
                current = len(value) == codec.dtype.itemsize  # not copied: this looks at every state
                state = np.frombuffer(value, codec.dtype) if current else codec.decode([value])
                if state["n"][0] and (
                    state["model_version"][0] != model.live.version or state["cached_n"][0] != state["n"][0]
                ):
                    found[key] = value
        return found, b""
