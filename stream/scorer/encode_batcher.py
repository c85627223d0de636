"""Encode calls of several micro-batches as one: a call costs as much as the events of a small batch."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np

from panther_core.decide.scoring import (
    EncodeRequest,
    EncodeResponse,
    ExplainResponse,
    Scorer,
    ScoreRequest,
    ScoreResponse,
)


class Gathered:
    """A scorer that has one encode call under way; what is asked meanwhile goes into the next one together.

    A user is asked for by one caller at a time (stream.worker.pipeline sees to it), so requests hold no user twice.
    Calls must come from one event loop. What a call raises, all who are in it get.
    """

    def __init__(self, scorer: Scorer, most: int) -> None:
        """`most`: users of a gathered call, unless a single request has more."""
        self._scorer, self._most = scorer, most
        self._waiting: list[tuple[EncodeRequest, int, asyncio.Future[EncodeResponse]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def score(self, request: ScoreRequest, version: int) -> ScoreResponse:
        """As the scorer does."""
        return await self._scorer.score(request, version)

    async def explain(self, request: ScoreRequest, version: int) -> ExplainResponse:
        """As the scorer does."""
        return await self._scorer.explain(request, version)

    async def encode(self, request: EncodeRequest, version: int) -> EncodeResponse:
        """Encode with whatever else waits for this version."""
        answer: asyncio.Future[EncodeResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, version, answer))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call())
        return await answer

    async def _call(self) -> None:
        try:
            while self._waiting:
                together = self._next()
                version = together[0][1]
                requests = [request for request, _, _ in together]
                try:
                    encoded = await self._scorer.encode(_join(requests), version)
                    answers: list[EncodeResponse | Exception] = list(_split(encoded, [len(r.user) for r in requests]))
                except Exception as error:
                    answers = [error] * len(together)
                for (_, _, future), answer in zip(together, answers, strict=True):
                    if future.done():  # whoever asked was cancelled
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._calling = None

    def _next(self) -> list[tuple[EncodeRequest, int, asyncio.Future[EncodeResponse]]]:
        """The oldest request and those behind it that go with it."""
        together, users = [self._waiting.pop(0)], 0
        version, users = together[0][1], len(together[0][0].user)
        while self._waiting and self._waiting[0][1] == version and users + len(self._waiting[0][0].user) <= self._most:
            together.append(self._waiting.pop(0))
            users += len(together[-1][0].user)
        return together


def _join(requests: list[EncodeRequest]) -> EncodeRequest:
    if len(requests) == 1:
        return requests[0]
    names = [field.name for field in dataclasses.fields(EncodeRequest)]
    return EncodeRequest(*(np.concatenate([getattr(request, name) for request in requests]) for name in names))


def _split(answer: EncodeResponse, sizes: list[int]) -> list[EncodeResponse]:
    ends = np.cumsum(sizes).tolist()
    return [
        EncodeResponse(answer.cached[end - size : end], answer.expected[end - size : end])
        for end, size in zip(ends, sizes, strict=True)
    ]
