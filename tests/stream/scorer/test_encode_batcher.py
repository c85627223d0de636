"""Encode calls that meet are made as one, each caller gets its own rows, and a failure is everybody's in the call."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import EncodeRequest, EncodeResponse
from stream.scorer.encode_batcher import EncodeBatcher


class Slow:
    """A scorer that answers, after a moment, with each user's number, and records its requests."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []
        self.fail = False

    async def ask(self, request: EncodeRequest, version: int) -> EncodeResponse:
        self.calls.append((version, request.user.tolist()))
        await asyncio.sleep(0.02)
        if self.fail:
            raise ScorerUnavailable("planted")
        return EncodeResponse(np.repeat(request.user[:, None], 5, 1).astype(np.float32), request.codes[:, :3])


def request(*users: int) -> EncodeRequest:
    user = np.array(users, np.uint64)
    count = len(user)
    codes = np.arange(4, dtype=np.uint64) + user[:, None]
    return EncodeRequest(user, codes, np.ones(count, np.int32), user + np.uint64(1), np.zeros((count, 8), np.uint8))


def together(batcher: EncodeBatcher, *asked: tuple[EncodeRequest, int]) -> list[Any]:
    async def go() -> list[Any]:
        return await asyncio.gather(*(batcher.ask(*one) for one in asked), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(go(), 10))


def test_what_comes_while_a_call_is_under_way_goes_with_the_next() -> None:
    slow = Slow()
    asked = [(request(1, 2), 7), (request(3), 7), (request(4, 5, 6), 7), (request(7), 8), (request(8), 7)]
    answers = together(EncodeBatcher(slow, most=512), *asked)  # type: ignore[arg-type]
    # a call has one version, and the calls keep the order of the requests
    assert slow.calls == [(7, [1, 2, 3, 4, 5, 6]), (8, [7]), (7, [8])]
    for (one, _), answer in zip(asked, answers, strict=True):
        assert (answer.cached[:, 0] == one.user).all()
        assert (answer.expected == one.codes[:, :3]).all()


def test_a_call_has_at_most_so_many_users_unless_one_request_has_more() -> None:
    slow = Slow()
    together(EncodeBatcher(slow, most=3), (request(1, 2), 1), (request(3, 4), 1), (request(5, 6, 7, 8), 1))  # type: ignore[arg-type]
    assert [users for _, users in slow.calls] == [[1, 2], [3, 4], [5, 6, 7, 8]]


def test_a_failure_is_told_to_all_and_the_next_call_is_made() -> None:
    slow = Slow()
    batcher = EncodeBatcher(slow, most=512)  # type: ignore[arg-type]
    slow.fail = True
    answers = together(batcher, (request(1), 1), (request(2), 1))
    assert all(isinstance(answer, ScorerUnavailable) for answer in answers)
    slow.fail = False
    assert together(batcher, (request(3), 1))[0].cached[0, 0] == 3


def test_who_is_cancelled_does_not_take_others_along() -> None:
    slow = Slow()
    batcher = EncodeBatcher(slow, most=512)  # type: ignore[arg-type]

    async def go() -> EncodeResponse:
        first = asyncio.create_task(batcher.ask(request(1), 1))
        second = asyncio.create_task(batcher.ask(request(2), 1))
        await asyncio.sleep(0.005)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(go()).cached[0, 0] == 2


def test_an_answer_that_cannot_be_split_is_an_error_and_no_hang() -> None:
    class Broken(Slow):
        async def ask(self, request: EncodeRequest, version: int) -> EncodeResponse:
            return EncodeResponse(None, None)  # type: ignore[arg-type]

    failures = together(EncodeBatcher(Broken(), 10), (request(1), 7), (request(2), 7))  # type: ignore[arg-type]
    assert all(isinstance(failure, TypeError) for failure in failures)
