"""A worker that has failed or was told to stop ends in time, whatever hangs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from panther_core.base.errors import BadInput
from stream.ops.ending import Ending, cause_of
from stream.ops.health import Health


class Process:
    """What an Ending would end."""

    def __init__(self, within_s: float = 0.3) -> None:
        self.codes: list[int] = []
        self.ended = threading.Event()
        self.health = Health()
        self.ending = Ending(self.health, within_s, self._end)

    def _end(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()


def test_a_failure_is_said_once_in_one_line_and_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    process, told = Process(), list[bool]()
    process.ending.stop_worker = lambda: told.append(True)
    process.ending.start()
    process.health.beat([])
    error = ValueError("no\nnumber")
    error.add_note("at the records transactions 1:5-9 (5)")
    process.ending.fail(error)
    process.ending.fail(KeyError("later"))
    process.health.beat([])  # a task that is left still reports
    assert process.health.not_alive() == process.health.not_ready() == [cause_of(error)]
    assert process.ended.wait(20)
    assert (process.codes, told, process.ending.failed) == ([1], [True], True)
    said = [record for record in caplog.records if record.getMessage().startswith("the worker stops")]
    assert [r.getMessage() for r in said] == [
        "the worker stops: at the records transactions 1:5-9 (5): ValueError: no number"
    ]
    assert said[0].exc_info is not None


def test_an_expected_error_has_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.ending.fail(BadInput("expected a topic transactions, found none"))
    (said,) = caplog.records
    assert said.getMessage() == "the worker stops: expected a topic transactions, found none"
    assert said.exc_info is None


def test_what_faust_crashes_of_is_found(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.ending.crash = lambda: RuntimeError("of the consumer's thread")
    process.ending.start()
    assert process.ended.wait(20)
    assert process.ending.failed
    assert "the worker stops: RuntimeError: of the consumer's thread" in caplog.text


def test_an_order_to_stop_is_no_failure() -> None:
    process = Process()
    process.ending.start()
    process.health.beat([])
    process.ending.stop()
    assert process.health.not_ready() == ["the worker was told to stop"]
    assert process.ended.wait(20)
    assert not process.ending.failed


_HANGS = """
import asyncio, ctypes, logging, signal, sys
from stream.ops.ending import Ending
from stream.ops.health import Health
logging.basicConfig(format="%(message)s")
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    ending = Ending(Health(), within_s=0.5)
    ending.start()
    ending.hear(signal.SIGTERM)
    print("hangs", flush=True)
    while True:
        ctypes.CDLL(None).sleep(60)  # the event loop does not turn, and no handler of Python's runs
asyncio.run(main())
"""


def test_sigterm_ends_a_process_whose_main_thread_hangs() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "has not ended by itself within 0.5 s" in said
    assert "(main)" in said


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging, "shutdown", lambda: None)  # the test's log goes on
