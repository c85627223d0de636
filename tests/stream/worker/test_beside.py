"""The agent's work ends with any of the tasks beside it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stream.worker.beside import TaskEnded, naming_records, run_beside


class Forever:
    """A task without an end, and whether it was cancelled."""

    cancelled = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("planted")


async def returns() -> None:
    await asyncio.sleep(0)


def test_a_task_that_fails_ends_the_work() -> None:
    work, other = Forever(), Forever()
    with pytest.raises(ValueError, match="planted") as raised:
        asyncio.run(run_beside(work.run(), {"other": other.run(), "acker": fails()}))
    assert raised.value.__notes__ == ["in the task acker"]
    assert work.cancelled
    assert other.cancelled


def test_a_task_that_ends_without_an_error_is_one() -> None:
    work = Forever()
    with pytest.raises(TaskEnded, match=r"the task watch"):
        asyncio.run(run_beside(work.run(), {"watch": returns()}))
    assert work.cancelled


async def leaks() -> None:
    inner = asyncio.ensure_future(asyncio.Event().wait())
    inner.cancel()
    await inner  # raises CancelledError, although nobody cancelled this task


def test_a_stray_cancellation_is_a_failure() -> None:
    with pytest.raises(TaskEnded, match=r"the task watch .* was cancelled from inside"):
        asyncio.run(run_beside(Forever().run(), {"watch": leaks()}))
    with pytest.raises(TaskEnded, match=r"the work .* was cancelled from inside"):
        asyncio.run(run_beside(leaks(), {"watch": Forever().run()}))


def test_the_works_end_ends_the_tasks() -> None:
    task = Forever()
    asyncio.run(run_beside(returns(), {"watch": task.run()}))
    assert task.cancelled
    with pytest.raises(ValueError, match="planted") as raised:
        asyncio.run(run_beside(fails(), {"watch": Forever().run()}))
    assert not hasattr(raised.value, "__notes__")


def test_cancelling_reaches_all() -> None:
    work, task = Forever(), Forever()

    async def go() -> None:
        running = asyncio.ensure_future(run_beside(work.run(), {"watch": task.run()}))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
    assert work.cancelled
    assert task.cancelled


def test_an_error_names_the_ranges_of_its_records() -> None:
    def event(partition: int, offset: int) -> Any:
        return SimpleNamespace(message=SimpleNamespace(partition=partition, offset=offset))

    with pytest.raises(KeyError) as raised, naming_records([event(1, 7), event(0, 3), event(1, 5), event(1, 6)]):
        raise KeyError("x")
    assert raised.value.__notes__ == ["at the records transactions 0:3-3 (1), 1:5-7 (3)"]
