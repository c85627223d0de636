"""A worker that stood still for too long says so, and goes on saying it; a slow event loop is something else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from stream.worker import suspension
from stream.worker.suspension import Suspended, Suspension


def test_only_a_gap_beyond_the_limit_counts_and_it_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(suspension, "_now_s", lambda: now_s)
    guard = Suspension(4.0)
    now_s += 4.0
    guard.check()
    now_s += 0.1
    for _ in range(2):
        with pytest.raises(Suspended, match=r"stood still for 4\.1 s"):
            guard.check()


def test_the_thread_keeps_a_gap_that_it_notices_first(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 9.0, 9.1])  # made, ticked, checked
    monkeypatch.setattr(suspension, "_now_s", lambda: next(times))
    guard = Suspension(4.0)
    waits = iter([False, True])
    monkeypatch.setattr(guard._ended, "wait", lambda timeout: next(waits))
    guard._tick()
    with pytest.raises(Suspended, match=r"stood still for 9\.0 s"):
        guard.check()


def test_a_blocked_event_loop_is_no_suspension() -> None:
    async def go() -> None:
        guard = Suspension(1.0)
        running = asyncio.ensure_future(guard.run())
        await asyncio.sleep(0.2)
        time.sleep(2.5)  # noqa: ASYNC251 - what is tested
        guard.check()
        await asyncio.sleep(0.2)
        assert not running.done()
        running.cancel()

    asyncio.run(go())


_STOPPED = """
import asyncio
from stream.worker.suspension import Suspended, Suspension
async def main():
    guard = Suspension(1.0)
    running = asyncio.ensure_future(guard.run())
    await asyncio.sleep(0.3)
    print("runs", flush=True)
    while True:  # as the producers do
        await asyncio.sleep(0)
        try:
            guard.check()
        except Suspended as error:
            print(error, flush=True)
            break
try:
    asyncio.run(main())
except Suspended:
    pass
"""


def test_a_stopped_process_is_noticed_before_the_next_request() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "this worker stood still for" in said
