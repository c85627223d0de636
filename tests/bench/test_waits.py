"""Waits end, whatever they wait for."""

from __future__ import annotations

import asyncio
import time

import pytest

from bench import waits
from bench.chaos.traffic import Flow
from bench.waits import Stuck, end, poll, within


async def stubborn(times: int) -> None:
    """Swallows its cancellation `times` times, as a client of aiokafka does once while it is being closed."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


@pytest.mark.parametrize("times", [0, 1, 9])
def test_a_task_that_swallows_its_cancellation_is_not_waited_for_for_ever(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "_CANCELLED_S", 0.1)

    async def go() -> bool:
        task = asyncio.create_task(stubborn(times))
        await asyncio.sleep(0)
        await end(task)
        ended = task.done()
        for _ in range(times + 1):  # or the event loop of the test waits for it
            task.cancel()
            await asyncio.sleep(0)
        return ended

    assert asyncio.run(go()) == (times < 2)


def test_a_wait_says_what_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_CANCELLED_S", 0.1)
    with pytest.raises(Stuck, match="expected an answer within 0 s, waited in vain"):
        asyncio.run(within(0.05, "an answer", stubborn(1)))
    assert asyncio.run(within(5, "an answer", asyncio.sleep(0, "yes"))) == "yes"


def test_polling_ends_with_the_last_answer() -> None:
    answers = iter(range(100))

    async def ask() -> int:
        return next(answers)

    assert asyncio.run(poll(ask, lambda answer: answer == 1, 5)) == 1
    assert asyncio.run(poll(ask, lambda _: False, 0)) == 2


def test_a_held_flow_waits_until_all_is_stored_and_moves_the_schedule() -> None:
    async def go() -> tuple[bool, float]:
        flow, stored = Flow(), asyncio.get_running_loop().create_future()

        async def sender() -> float:
            await asyncio.sleep(0.05)
            return await flow.wait({stored})

        sending = asyncio.create_task(sender())
        asyncio.get_running_loop().call_later(0.1, stored.set_result, None)
        began_s = time.monotonic()
        async with flow.held():
            was_stored = stored.done()
            await asyncio.sleep(0.05)
        held_s = await sending
        return was_stored, time.monotonic() - began_s - held_s

    was_stored, rest_s = asyncio.run(go())
    assert was_stored
    assert 0 < rest_s < 5


def test_a_flow_whose_sender_has_ended_holds_nobody_up() -> None:
    async def go() -> None:
        flow = Flow()
        flow.end()
        async with flow.held():
            pass

    asyncio.run(go())
