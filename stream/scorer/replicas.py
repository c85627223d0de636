"""Several Triton servers as one scorer: which replica gets which rows, and where a failed call is tried again.

Every replica can answer for every user. Rows to encode are divided by rendezvous hashing of the user, so that a user
stays with the replica whose cache holds them, and a replica that leaves or returns moves no other users. All other
requests go to the replica with the fewest calls under way. A failed call is tried once more, on another replica: only
once, so that a request that kills servers cannot reach all of them. The health of a replica: stream.scorer.replica.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import xxhash

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.rows import gathered, take
from panther_core.decide.scoring import EncodeRequest, R, Request, Scorer
from stream.ops import metrics
from stream.scorer.rendezvous import rendezvous
from stream.scorer.replica import DIAGNOSE_S, Lane, Replica
from stream.scorer.triton_control import TritonControl
from stream.scorer.triton_scorer import TritonScorer

logger = logging.getLogger(__name__)

#: share of the deadline that the first of two attempts may use
_FIRST = 2 / 3


class ReplicaScorer:
    """Implements scoring.Scorer over one or more Triton servers; calls must come from one event loop."""

    def __init__(
        self,
        urls: str | Sequence[str],
        score_deadline_s: float = 0.5,
        encode_deadline_s: float = 5.0,
        heal: bool = True,
        client: Callable[[str, float, float], Scorer] = TritonScorer,
        control: Callable[[str], TritonControl] = TritonControl,
    ) -> None:
        """`urls`: host:port, comma separated or a sequence; the same text in every worker, since the urls are hashed.

        `heal`: unload and load a model whose Python process is dead. Raises ValueError. Connections are made at the
        first call.
        """
        names = [u.strip() for u in urls.split(",")] if isinstance(urls, str) else list(urls)
        if not all(names) or len(set(names)) != len(names) or not names:
            raise ValueError(f"expected distinct host:port, comma separated, got {urls!r}: correct TRITON_URL")
        self._score_deadline_s, self._encode_deadline_s = score_deadline_s, encode_deadline_s
        self._replicas = [
            Replica(
                name,
                client(name, score_deadline_s, encode_deadline_s),
                client(name, DIAGNOSE_S, DIAGNOSE_S),
                control(name),
                heal,
            )
            for name in names
        ]
        self._seeds = {replica: xxhash.xxh64_intdigest(replica.url.encode()) for replica in self._replicas}
        self._watching = False

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer a request with model `version`."""
        self._watch()
        if len(self._replicas) == 1:
            replica = self._replicas[0]
            return await replica.call(replica.lane(request, version), request)
        deadline_s = self._score_deadline_s if request.urgent else self._encode_deadline_s
        return await self._spread(request, version, time.monotonic() + deadline_s)

    async def close(self) -> None:
        """Stop watching the replicas, and close every connection."""
        await asyncio.gather(*(replica.stop() for replica in self._replicas))
        self._watching = False

    def problem(self) -> str | None:
        """What is wrong when no replica is well, else None. Begins to watch the replicas, if that had not begun."""
        self._watch()
        if any(replica.well for replica in self._replicas):
            return None
        urls = ", ".join(replica.url for replica in self._replicas)
        return f"no Triton replica has answered its canary, or all have failed since: {urls}"

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            for replica in self._replicas:
                replica.start()

    async def _spread(self, request: Request[R], version: int, end_s: float, failed: Replica | None = None) -> R:
        """Divide a request over the healthy replicas except `failed`, the replica that has just failed to answer it."""
        lanes = {r: r.lane(request, version) for r in self._replicas if r is not failed}
        well = [replica for replica, lane in lanes.items() if replica.takes(lane)]
        if not well:
            raise ScorerUnavailable(
                f"expected a replica in health for {request.model} version {version}, got none of "
                f"{', '.join(r.url for r in self._replicas)}: see the log above, and the servers'"
            )
        last = failed is not None or len(well) == 1
        within_s = (end_s - time.monotonic()) * (1 if last else _FIRST)

        async def part(replica: Replica, rows: Any) -> R:
            mine = request if rows is None else take(request, rows)
            try:
                return await self._within(replica, lanes[replica], mine, within_s)
            except ScorerUnavailable:
                if last:
                    raise
                metrics.MODEL_RETRIES.labels(request.step).inc()
                return await self._spread(mine, version, end_s, failed=replica)

        groups = self._groups(request, well, lanes)
        if len(groups) == 1:
            return await part(groups[0][0], None)
        answers = await asyncio.gather(*(part(*group) for group in groups), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return gathered([rows for _, rows in groups], cast(list[R], answers))

    async def _within(self, replica: Replica, lane: Lane, request: Request[R], within_s: float) -> R:
        try:
            async with asyncio.timeout(within_s):
                return await replica.call(lane, request)
        except TimeoutError:
            replica.suspect(lane)
            raise ScorerUnavailable(
                f"expected an answer of {lane.model} version {lane.version} at {replica.url} within {within_s:.2f} s, "
                "got none: is the server up?"
            ) from None

    def _groups(
        self, request: Request[Any], well: list[Replica], lanes: dict[Replica, Lane]
    ) -> list[tuple[Replica, Any]]:
        """Replicas, each with the rows it gets (None: the whole request)."""
        if not isinstance(request, EncodeRequest):
            least = min(lanes[r].busy for r in well)
            return [(random.choice([r for r in well if lanes[r].busy == least]), None)]
        if len(well) == 1:
            return [(well[0], None)]
        place = rendezvous(request.user, [self._seeds[r] for r in well])
        groups = [(replica, np.flatnonzero(place == i)) for i, replica in enumerate(well)]
        return [group for group in groups if len(group[1])] or [(well[0], None)]
