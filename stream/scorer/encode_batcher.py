"""Joins encode calls of several micro-batches: a call costs as much as the events of a small batch."""

from __future__ import annotations

import asyncio
from typing import cast

from panther_core.decide.rows import concatenated, split
from panther_core.decide.scoring import EncodeRequest, EncodeResponse, R, Request, Scorer


class EncodeBatcher:
    """A scorer with at most one encode call under way; encode requests that come meanwhile share the next call.

    All other requests are passed on. A user is asked for by one caller at a time (stream.worker.pipeline sees to
    that), so requests hold no user twice. Calls must come from one event loop. When a call raises, `ask` raises that
    error for every request in the call.
    """

    def __init__(self, scorer: Scorer, most: int) -> None:
        """`most`: largest number of users of a joint call; a single request may have more."""
        self._scorer, self._most = scorer, most
        self._waiting: list[tuple[EncodeRequest, int, asyncio.Future[EncodeResponse]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer a request; an EncodeRequest in one call with others that wait for the same version."""
        if not isinstance(request, EncodeRequest):
            return await self._scorer.ask(request, version)
        answer: asyncio.Future[EncodeResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, version, answer))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call())
        return cast(R, await answer)

    async def _call(self) -> None:
        try:
            while self._waiting:
                together = self._next()
                version = together[0][1]
                requests = [request for request, _, _ in together]
                try:
                    asked = requests[0] if len(requests) == 1 else concatenated(requests)
                    encoded = await self._scorer.ask(asked, version)
                    answers: list[EncodeResponse | Exception] = [*split(encoded, [len(r.user) for r in requests])]
                except Exception as error:
                    answers = [error] * len(together)
                for (_, _, future), answer in zip(together, answers, strict=True):
                    if future.done():  # the caller was cancelled
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._calling = None

    def _next(self) -> list[tuple[EncodeRequest, int, asyncio.Future[EncodeResponse]]]:
        """The oldest request, and those behind it that fit into the same call: same version, at most `most` users."""
        together, users = [self._waiting.pop(0)], 0
        version, users = together[0][1], len(together[0][0].user)
        while self._waiting and self._waiting[0][1] == version and users + len(self._waiting[0][0].user) <= self._most:
            together.append(self._waiting.pop(0))
            users += len(together[-1][0].user)
        return together
