"""Shows the encoder of a version that is about to go live the users who pay meanwhile, a few at a time.

A version that has just been loaded holds nothing of any user. Where it went live at once, every user's next event would
have the whole window encoded, all of them within seconds, and decisions would wait behind them. Users whom it has seen
are shown again when they pay again, or the events since would have to be caught up with in those seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.engine import encode_request
from panther_core.decide.rows import concatenated, take
from panther_core.decide.scoring import EncodeRequest, Scorer

logger = logging.getLogger(__name__)

_EVERY_S = 0.02  # few users at a time: decisions wait for the CPU behind each step
_AGAIN = 64  # most users of a step who are shown again, each a few events
_LOOK_S = 1.0
_FEW = 0.1  # of the users who may be shown in that time: where no more come, the switch need not wait for them
_LONGEST_S = 120.0


class WarmUp:
    """One worker's; nothing is stored, and decisions are those of the version that is live."""

    def __init__(self, scorer: Scorer, users_per_s: float) -> None:
        """`scorer`: asked beside the calls of decisions. `users_per_s`: who are shown for the first time; 0: versions
        go live at once."""
        self._every_s = max(_EVERY_S, 1 / users_per_s) if users_per_s else _EVERY_S
        self._scorer, self._step = scorer, round(users_per_s * self._every_s)
        self._met: set[int] | None = None  # users noted so far; None while no version is about to go live
        self._shown: set[int] = set()
        # users who wait, for the first time and again: a request that has each one's newest state, and the row in it
        self._first: dict[int, tuple[EncodeRequest, int]] = {}
        self._again: dict[int, tuple[EncodeRequest, int]] = {}

    def note(self, users: NDArray[np.uint64], states: Any) -> None:
        """Take down users who have just had an event, with their states after it, if a version is to see them."""
        if self._met is None:
            return
        most = int(self._step * _LONGEST_S / self._every_s)
        request = encode_request(states, users)
        for row, user in enumerate(users.tolist()):
            if user in self._shown:
                self._again[user] = request, row
            elif states["n"][row] and (user in self._met or len(self._met) < most):
                self._met.add(user)
                self._first[user] = request, row

    async def run(self, version: int, wanted: Callable[[], bool]) -> None:
        """Return when `version` has seen nearly every user who comes, after two minutes, or once it is not `wanted`.

        The encoder keeps what it has computed, so that a user's events from then on are a few steps for it. Where it
        does not answer, the version goes live all the same: then decisions degrade, as the watch of a promotion sees.
        """
        if not self._step:
            return
        began_s, self._met = time.monotonic(), set()
        look_s, met = began_s + _LOOK_S, 0
        few = _FEW * self._step * _LOOK_S / self._every_s
        try:
            while wanted() and (step_s := time.monotonic()) - began_s < _LONGEST_S:
                part = [*_pop(self._first, self._step, self._shown), *_pop(self._again, _AGAIN, self._shown)]
                if part:
                    await self._scorer.ask(concatenated(part), version)
                if step_s >= look_s:
                    if not self._first and len(self._met) - met <= few:
                        break
                    look_s, met = step_s + _LOOK_S, len(self._met)
                await asyncio.sleep(max(0.0, step_s + self._every_s - time.monotonic()))
        except ScorerUnavailable as error:
            logger.warning("model version %d goes live without having seen its users: %s", version, error)
        finally:
            passed_s = time.monotonic() - began_s
            logger.info("model version %d has seen %d users in %.1f s", version, len(self._shown), passed_s)
            self._met, self._shown, self._first, self._again = None, set(), {}, {}


def _pop(waiting: dict[int, tuple[EncodeRequest, int]], most: int, shown: set[int]) -> Iterator[EncodeRequest]:
    """The requests of those who have waited longest, who count as `shown` now."""
    for user in list(itertools.islice(waiting, most)):
        request, row = waiting.pop(user)
        shown.add(user)
        yield take(request, slice(row, row + 1))
