"""A command about a user who is in one batch after the other finds the moment between two of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from panther_core.base.settings import KafkaSettings
from stream.worker.pipeline import Pipeline
from stream.worker.user_commands import UserCommands

KEY = b"hot"


def commands(pipeline: Pipeline) -> tuple[UserCommands, SimpleNamespace]:
    app: Any = SimpleNamespace(rebalancing=False, consumer_generation_id=1)
    parts: list[Any] = [None, pipeline, None]
    return UserCommands(app, KafkaSettings(), *parts), app


@pytest.fixture
def pipeline() -> Pipeline:
    nothing: Any = None
    return Pipeline(nothing, nothing, 1, 1)


def test_a_user_in_one_batch_after_the_other_is_claimed(pipeline: Pipeline) -> None:
    async def batches() -> None:
        while pipeline.claim([KEY]):
            await asyncio.sleep(0.003)
            pipeline.release({KEY})
            await asyncio.sleep(0)  # the next batch begins in the next turn of the loop

    async def go() -> None:
        hog = asyncio.create_task(batches())
        await asyncio.sleep(0)
        assert await asyncio.wait_for(commands(pipeline)[0]._claim(KEY, 1), 20)
        await hog  # it found the user claimed
        assert not pipeline.claim([KEY])

    asyncio.run(go())


def test_a_command_of_a_partition_that_moves_is_left_to_its_new_owner(pipeline: Pipeline) -> None:
    async def go() -> None:
        own, app = commands(pipeline)
        pipeline.claim([KEY])
        waiting = asyncio.create_task(own._claim(KEY, 1))
        await asyncio.sleep(0)
        app.consumer_generation_id = 2
        assert await waiting is False

    asyncio.run(go())
