"""One Triton server: which of its models answer, and the reload of a model whose process is dead.

Health is tested by inference, since servers and models report ready while their Python process (the stub) is dead. A
canary model is called all the time. A model version in use (a lane) counts as healthy while it answers real calls;
where there are none it is probed with one row of zeros. After a failure a lane gets no calls until a probe is answered,
so that calls fail at once and do not queue before a server that cannot answer.

A model whose process is dead is unloaded and loaded. A model that calls ask for and that is not loaded is loaded: the
load after an unload has failed (memory was short), or the worker that had unloaded it has died in between. Loads that
fail are tried again, at growing intervals.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.rows import dummy_row
from panther_core.decide.scoring import R, Request, Scorer
from stream.ops import metrics
from stream.scorer.triton_control import TritonControl
from stream.scorer.triton_scorer import TritonScorer

logger = logging.getLogger(__name__)

_EVERY_S = 0.5
_PROBE_S = 1.3  # Triton reports a dead stub after 1.0 s; with _EVERY_S a failure is detected within 2 s
_AT_ONCE_S = 0.3  # an answer this soon after the canary was sent may be from before the server hung
DIAGNOSE_S = 10.0  # limit of a probe after a failure: a dead stub takes 1 s for each request that is queued before it
_STOOD_S = 0.3  # a limit of time that is noticed so late was not noticed by a process that ran
_FORGET_S = 10.0  # a failing lane that has no calls for so long is dropped: its version was taken out of service
_JITTER_S = 0.3  # several workers see the same dead stub, and should not reload it at the same moment
_DRAIN_S = 10.0  # longest wait for the calls under way before a model is reloaded
_AGAIN_S, _AGAIN_MOST_S = 1.0, 30.0  # first and longest wait after a load that failed; each is twice the one before


@dataclasses.dataclass(eq=False)
class Lane:
    """One model version on one replica."""

    probe: Request[Any]  # one row of zeros
    version: int
    ok: bool = True
    busy: int = 0  # calls under way
    # the creation counts as an answer, so that a new lane is not probed at once
    answered_s: float = dataclasses.field(default_factory=time.monotonic)
    limits: set[asyncio.Timeout] = dataclasses.field(default_factory=set)  # of the calls under way
    used_s: float = 0.0
    watch: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        return self.probe.model


class Replica:
    """One server: its lanes, and the task that watches it."""

    def __init__(self, url: str, client: Scorer, prober: Scorer, control: TritonControl, heal: bool) -> None:
        self.url, self.client, self.prober, self.control, self.heal = url, client, prober, control, heal
        self.up, self.lanes = True, dict[tuple[str, int], Lane]()
        self._looked_after = set[str]()  # models that are being found out about, or loaded
        self._reloaded = set[str]()  # of these the ones that are unloaded first: they get no calls
        self.answered = self._echoed = False  # whether it has ever answered its canary; whether the canary has echoed
        self._again: dict[str, tuple[float, float]] = {}  # model not to be loaded before (s), after a wait of (s)
        self.task: asyncio.Task[None] | None = None
        metrics.REPLICA_UP.labels(url).set(1)

    def start(self) -> None:
        """Begin to watch."""
        self.task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching, and close the connections."""
        tasks = [t for t in (self.task, *(lane.watch for lane in self.lanes.values())) if t]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for part in (self.client, self.prober, self.control):
            if isinstance(part, TritonScorer | TritonControl):
                await part.close()

    def lane(self, request: Request[Any], version: int) -> Lane:
        """The lane of a request; made at the first request for this model and version."""
        lane = self.lanes.get((request.model, version))
        if lane is None:
            lane = self.lanes[request.model, version] = Lane(dummy_row(request), version)
        lane.used_s = time.monotonic()
        return lane

    def takes(self, lane: Lane) -> bool:
        """Whether calls may go to this lane."""
        return self.up and lane.ok and lane.model not in self._reloaded

    async def call(self, lane: Lane, request: Request[R]) -> R:
        """Make one call. Raises ScorerUnavailable; the lane then gets no calls until a probe is answered."""
        if not self.takes(lane):
            raise ScorerUnavailable(
                f"expected {lane.model} version {lane.version} in health at {self.url}, got a replica that failed and "
                "has not answered a probe since: see the log above, and the server's"
            )
        lane.busy += 1
        try:
            async with asyncio.timeout(None) as limit:
                lane.limits.add(limit)
                try:
                    answer = await self.client.ask(request, lane.version)
                finally:
                    lane.limits.discard(limit)
        except ScorerUnavailable as error:
            self.suspect(lane, str(error))
            raise
        except TimeoutError:
            raise ScorerUnavailable(
                f"expected an answer of {lane.model} version {lane.version} at {self.url}, got none before the replica "
                "was found down: see the log above, and the server's"
            ) from None
        finally:
            lane.busy -= 1
        lane.answered_s = time.monotonic()
        return answer

    def suspect(self, lane: Lane, problem: str | None = None) -> None:
        """Give the lane no calls until a probe is answered, end its calls under way, and start to probe it."""
        if lane.ok:
            lane.ok = False
            self._show()
        for limit in lane.limits:  # a hanging call blocks its micro-batch and every batch behind that batch
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
        if self.task and (lane.watch is None or lane.watch.done()):
            lane.watch = asyncio.create_task(self._probe_until_well(lane, problem))

    async def _watch(self) -> None:
        ailing, looked_s = False, 0.0
        while True:
            for lane in self.lanes.values():
                silent = lane.answered_s < looked_s and not lane.busy
                if lane.ok and silent and (lane.watch is None or lane.watch.done()):
                    lane.watch = asyncio.create_task(self._probe_until_well(lane))
            looked_s = time.monotonic()
            problem = await self._canary(DIAGNOSE_S if ailing else _PROBE_S)
            self._echoed |= problem is None
            not_loaded = problem is not None and _is_not_loaded(problem)
            if problem and (_is_dead_stub(problem) or (not_loaded and self._echoed)):
                await self._heal("canary", 1, lambda: self.control.canary(DIAGNOSE_S))
            elif problem is None:
                self._again.pop("canary", None)
            if not_loaded:  # the server has answered, so it is alive; its lanes are probed all the same
                problem = None
            ailing = problem is not None
            self.answered |= not ailing
            # a model that answered since the canary was sent proves that the server lives and only its canary fails
            proof = any(lane.answered_s > looked_s + _AT_ONCE_S for lane in self.lanes.values())
            alive = not problem or _is_dead_stub(problem) or proof
            if alive != self.up:
                self.up = alive
                logger.warning("replica %s is %s", self.url, "up again" if alive else f"down: {problem}")
                if not alive:  # a server that comes back may come back without a model
                    for lane in self.lanes.values():
                        self.suspect(lane)
                self._show()
            await asyncio.sleep(_EVERY_S)

    async def _canary(self, within_s: float) -> str | None:
        """As the control's canary, asked again where the time ran out while this process or the machine stood still:
        the server has had no time to answer either."""
        while True:
            sent_s = time.monotonic()
            problem = await self.control.canary(within_s)
            if problem is None or time.monotonic() - sent_s < within_s + _STOOD_S:
                return problem

    async def _probe_until_well(self, lane: Lane, problem: str | None = None) -> None:
        if problem is None or not _is_dead_stub(problem):
            problem = await self._probe(lane, _PROBE_S if lane.ok else DIAGNOSE_S)
        while problem:
            if lane.ok:
                lane.ok = False
                self._show()
            in_use = time.monotonic() - lane.used_s <= _FORGET_S
            if _is_dead_stub(problem) or (_is_not_loaded(problem) and in_use):
                await self._heal(lane.model, lane.version, lambda: self._probe(lane, DIAGNOSE_S))
            if not _is_dead_stub(problem):
                if not in_use and self.up:
                    self.lanes.pop((lane.model, lane.version), None)
                    break
                await asyncio.sleep(_EVERY_S)
            problem = await self._probe(lane, DIAGNOSE_S)
        else:
            lane.ok, lane.answered_s = True, time.monotonic()
            self._again.pop(lane.model, None)
        self._show()

    async def _probe(self, lane: Lane, within_s: float) -> str | None:
        """None when the lane answered a row of zeros, else what is wrong."""
        try:
            async with asyncio.timeout(within_s):
                await self.prober.ask(lane.probe, lane.version)
        except TimeoutError:
            return f"no answer within {within_s} s"
        except ScorerUnavailable as error:
            return str(error)
        return None

    async def _heal(self, model: str, version: int, again: Callable[[], Coroutine[Any, Any, str | None]]) -> None:
        """Load a model that is not loaded; unload it first if its stub is dead, which Triton does not restart.

        `again` probes the model. Calls go on to the model's other versions but while it is unloaded: a version that was
        taken out of service a moment ago is one that is not loaded, too.
        """
        not_before_s, waited_s = self._again.get(model, (0.0, _AGAIN_S / 2))
        if not self.heal or model in self._looked_after or time.monotonic() < not_before_s:
            return
        wait_s = min(2 * waited_s, _AGAIN_MOST_S)
        self._looked_after.add(model)
        try:
            # Probe again after a random wait: another worker may have reloaded the model by then, and a healthy model
            # must not be reloaded.
            await asyncio.sleep(random.uniform(0, _JITTER_S))
            problem = await again()
            if problem is None or not _can_be_loaded(problem):
                return
            dead, states = _is_dead_stub(problem), await self.control.states(model)
            # Another worker, or an operator, is at it; or a load has failed and unloads what it had loaded of other
            # versions, which goes on after its answer and has killed Triton (docs/log.md).
            if {"LOADING", "UNLOADING"} & set(states.values()):
                return
            # a repository that has other versions alone, or no such model, has nothing to load
            if not states or (not dead and str(version) not in states and "READY" in states.values()):
                return
            if dead:
                self._reloaded.add(model)
            # Triton can abort when a model is unloaded during a request (docs/log.md), so wait for the calls under way
            end_s = time.monotonic() + _DRAIN_S
            while dead and any(lane.busy for lane in self.lanes.values() if lane.model == model):
                if time.monotonic() > end_s:
                    return
                await asyncio.sleep(0.02)
            what = "has a dead Python process: unloading and loading it" if dead else "is not loaded: loading it"
            logger.error("%s at %s %s", model, self.url, what)
            started_s = time.monotonic()
            # shielded, because a worker that stops must not leave the model unloaded
            await asyncio.shield(self.control.reload(model) if dead else self.control.load(model))
            metrics.REPLICA_HEALS.labels(self.url, model).inc()
            logger.warning("%s at %s is loaded again after %.1f s", model, self.url, time.monotonic() - started_s)
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            logger.error("%s at %s could not be loaded, next try in %.0f s: %s", model, self.url, wait_s, error)
        finally:
            self._again[model] = time.monotonic() + wait_s, wait_s
            self._looked_after.discard(model)
            self._reloaded.discard(model)

    @property
    def well(self) -> bool:
        """Whether the canary has answered once, and the lanes in use answer now."""
        return self.answered and self._in_use_answer()

    def _in_use_answer(self) -> bool:
        """Of each model the version that was called last counts: the one before it may be out of service by now."""
        newest: dict[str, Lane] = {}
        for lane in self.lanes.values():
            if lane.model not in newest or lane.used_s >= newest[lane.model].used_s:
                newest[lane.model] = lane
        return self.up and all(lane.ok for lane in newest.values())

    def _show(self) -> None:
        metrics.REPLICA_UP.labels(self.url).set(self._in_use_answer())


def _is_dead_stub(problem: str) -> bool:
    return "Stub process" in problem and "not healthy" in problem


def _is_not_loaded(problem: str) -> bool:
    return "unknown model" in problem


def _can_be_loaded(problem: str) -> bool:
    return _is_dead_stub(problem) or _is_not_loaded(problem)
