"""Shows the encoder of a version that is about to go live the users who pay meanwhile, a few at a time.

A version that has just been loaded holds nothing of any user. Where it went live at once, every user's next event would
have the whole window encoded, all of them within seconds, and decisions would wait behind them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.engine import encode_request
from panther_core.decide.rows import concatenated, take
from panther_core.decide.scoring import EncodeRequest, Scorer
from panther_core.state.record import take_rows

logger = logging.getLogger(__name__)

_EVERY_S = 0.02  # few users at a time: decisions wait for the CPU behind each step
_LOOK_S = 1.0
_FEW = 0.1  # of the users who may be shown in that time: where no more come, the switch need not wait for them
_LONGEST_S = 120.0


class WarmUp:
    """One worker's; nothing is stored, and decisions are those of the version that is live."""

    def __init__(self, scorer: Scorer, users_per_s: float) -> None:
        """`scorer`: asked beside the calls of decisions. `users_per_s`: 0: versions go live at once."""
        self._every_s = max(_EVERY_S, 1 / users_per_s) if users_per_s else _EVERY_S
        self._scorer, self._step = scorer, round(users_per_s * self._every_s)
        self._waiting: list[EncodeRequest] = []
        self._met: set[int] | None = None  # users noted so far; None while no version is about to go live

    def note(self, users: NDArray[np.uint64], states: Any) -> None:
        """Take down users who have just had an event, with their states after it, if a version is to see them."""
        if self._met is None:
            return
        room = int(self._step * _LONGEST_S / self._every_s) - len(self._met)
        new = [row for row, user in enumerate(users.tolist()) if user not in self._met and states["n"][row]]
        new = new[: max(0, room)]
        if new:
            self._met.update(users[new].tolist())
            self._waiting.append(encode_request(take_rows(states, np.array(new, np.intp)), users[new]))

    async def run(self, version: int, wanted: Callable[[], bool]) -> None:
        """Return when `version` has seen nearly every user who comes, after two minutes, or once it is not `wanted`.

        The encoder keeps what it has computed, so that a user's events from then on are a few steps for it. Where it
        does not answer, the version goes live all the same: then decisions degrade, as the watch of a promotion sees.
        """
        if not self._step:
            return
        began_s, shown, self._met = time.monotonic(), 0, set()
        look_s, met = began_s + _LOOK_S, 0
        few = _FEW * self._step * _LOOK_S / self._every_s
        try:
            while wanted() and (step_s := time.monotonic()) - began_s < _LONGEST_S:
                if self._waiting:
                    part = self._next()
                    await self._scorer.ask(part, version)
                    shown += len(part.user)
                if step_s >= look_s:
                    if not self._waiting and len(self._met) - met <= few:
                        break
                    look_s, met = step_s + _LOOK_S, len(self._met)
                await asyncio.sleep(max(0.0, step_s + self._every_s - time.monotonic()))
        except ScorerUnavailable as error:
            logger.warning("model version %d goes live without having seen its users: %s", version, error)
        finally:
            self._met, self._waiting = None, []
        logger.info("model version %d has seen %d users in %.1f s", version, shown, time.monotonic() - began_s)

    def _next(self) -> EncodeRequest:
        """The users of one step, out of those who wait."""
        together, users = list[EncodeRequest](), 0
        while self._waiting and users < self._step:
            together.append(self._waiting.pop(0))
            users += len(together[-1].user)
        whole = concatenated(together)
        if users > self._step:
            self._waiting.insert(0, take(whole, slice(self._step, None)))
        return take(whole, slice(self._step))
