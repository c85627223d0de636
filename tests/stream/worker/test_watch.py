"""What a worker says of itself when it becomes ready, and when it no longer is."""

from __future__ import annotations

import logging

import pytest

from stream.worker.watch import Changes


def test_a_worker_says_when_it_is_ready_and_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    changes = Changes()
    for seconds in range(3):
        changes.say({"model": f"no model for {seconds} s", "states": "not restored"}, "")
    changes.say({"model": "no model"}, "")
    for _ in range(2):
        changes.say({}, "4 partitions, model version 3")
    for seconds in range(3):
        changes.say({"Kafka": f"Kafka does not answer for {seconds} s"}, "")
    changes.say({}, "4 partitions, model version 3")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert sorted(said[:2]) == [("INFO", "not ready: no model for 0 s"), ("INFO", "not ready: not restored")]
    assert said[2:] == [
        ("INFO", "no longer missing: states"),
        ("INFO", "ready: 4 partitions, model version 3"),
        ("WARNING", "not ready: Kafka does not answer for 0 s"),
        ("INFO", "ready: 4 partitions, model version 3"),
    ]
