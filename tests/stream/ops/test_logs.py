"""A worker's log: JSON lines, tracebacks included; repeated lines held back; a crash said once."""

from __future__ import annotations

import json
import logging
import logging.config

import pytest

from stream.ops.logs import CrashLines, HoldBack, json_logging


def test_every_record_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(json_logging("INFO"))
        logger = logging.getLogger("stream.somewhere")
        logger.debug("not at this level")
        logger.info('restored %d records\nof "two" lines', 7)
        try:
            raise ValueError("planted")
        except ValueError:
            logger.exception("it failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["message"] == 'restored 7 records\nof "two" lines'
    assert (first["level"], first["logger"]) == ("info", "stream.somewhere")
    assert first["time"].endswith("+00:00")
    assert "error" not in first
    assert 'raise ValueError("planted")' in second["error"]


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def line(name: str, template: str, *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "file.py", 1, template, args, None)


def test_an_outage_writes_a_line_every_ten_seconds_with_the_count_of_the_others() -> None:
    clock = Clock()
    held = HoldBack(clock)
    written: list[tuple[float, str]] = []
    for tick in range(600):  # a minute of four threads' retries, ten times a second
        clock.now_s = tick / 10
        for template in ("Unable connect to node with id %s", "Unable to update metadata from %s"):
            record = line("aiokafka.client", template, tick)
            if held.filter(record):
                written.append((clock.now_s, record.getMessage()))
                assert record.levelname == "WARNING", "aiokafka tries again by itself"
    assert [at_s for at_s, _ in written] == pytest.approx([0, 0, 10, 20, 30, 40, 50], abs=0.11)
    assert written[0][1] == "Unable connect to node with id 0"
    assert written[2][1].startswith("Unable connect to node with id 100 (and 198 lines like this or others of aiokafka")
    clock.now_s += 61  # it comes again after a while without it
    assert held.filter(line("aiokafka.client", "Unable connect to node with id %s", 1))


def test_what_is_said_once_and_our_own_lines_are_never_held_back() -> None:
    held = HoldBack(Clock())
    assert held.filter(line("aiokafka.consumer.fetcher", "Unable connect to node with id %s", 1))
    assert not held.filter(line("aiokafka.consumer.fetcher", "Unable connect to node with id %s", 1))
    assert held.filter(line("aiokafka.consumer.fetcher", "Topic %s not found", "transactions"))
    assert held.filter(line("faust.app.base", "Unable connect to node with id %s", 1))
    for _ in range(3):
        assert held.filter(line("aiokafka.consumer.fetcher", "Joined group %s", "g", level=logging.INFO))
        assert held.filter(line("stream.worker.watch", "not ready: %s", "no model"))
    degrading = [
        line("stream.worker.processor", "%s is unavailable, degrading: %s", "panther_score", n) for n in range(5)
    ]
    assert [held.filter(record) for record in degrading] == [True, False, False, False, False]


def test_crashes_of_fausts_are_handed_on_and_not_written() -> None:
    failed: list[BaseException] = []
    filter_ = CrashLines(failed.append)
    error = ValueError("planted")
    assert not filter_.filter(line("faust.app.base", "[^-App]: Crashed reason=%r", error))
    assert not filter_.filter(line("faust.worker", "[^Worker]: Error: %r", error))
    assert failed == [error, error]
    assert not filter_.filter(
        line("faust.worker", "[^Worker]: We experienced a crash! Reraising original exception...")
    )
    stopping = line("mode", "[^-App]: Error while stopping child %r: %r", "child", error)
    stopping.exc_info = (ValueError, error, None)
    assert filter_.filter(stopping)
    assert stopping.exc_info is None
    assert filter_.filter(line("faust.app.base", "[^-App]: Starting..."))
