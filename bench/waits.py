"""Waits with a limit, each of which says what it waited for: `panther bench cases` and `panther chaos` never hang."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from panther_core.base.errors import PantherError

T = TypeVar("T")
_POLL_S = 0.2
_CANCELLED_S = 5.0  # after which a task that swallowed its cancellation is cancelled again, and then left alone


class Stuck(PantherError):
    """Something did not come in time; the message says what was waited for, and for how long."""


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """The result of `work`. Raises Stuck when it takes longer than `seconds`, even if it ignores its cancellation."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        return task.result()
    await end(task)
    raise Stuck(f"expected {what} within {seconds:.0f} s, waited in vain")


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their ends, but not for ever: a library may swallow a cancellation."""
    for _ in range(2):
        for task in tasks:
            task.cancel()
        with contextlib.suppress(ValueError):  # no task at all
            await asyncio.wait(tasks, timeout=_CANCELLED_S)


async def poll(ask: Callable[[], Awaitable[T]], right: Callable[[T], bool], patience_s: float) -> T:
    """The first answer that is right, or the last one after `patience_s`."""
    end_s = time.monotonic() + patience_s
    while True:
        answer = await ask()
        if right(answer) or time.monotonic() > end_s:
            return answer
        await asyncio.sleep(_POLL_S)
