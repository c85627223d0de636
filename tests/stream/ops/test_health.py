"""The worker's end points: alive, ready, and what is missing, over HTTP."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from stream.ops.health import STUCK_S, Health, make_http_server


class Clock:
    """Seconds, set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(clock: Clock) -> Iterator[tuple[Health, str]]:
    health = Health(clock)
    server = make_http_server(health, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield health, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str) -> tuple[int, Any]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_nothing_is_well_before_the_agent_runs(served: tuple[Health, str]) -> None:
    _, url = served
    for path in ("/healthz", "/readyz"):
        assert ask(url + path) == (503, {"ok": False, "missing": ["the agent has not started"]})


def test_a_worker_that_restores_is_alive_and_not_ready(served: tuple[Health, str]) -> None:
    health, url = served
    health.beat(["4 partitions are assigned and not restored yet"])
    assert ask(url + "/healthz") == (200, {"ok": True, "missing": []})
    assert ask(url + "/readyz") == (503, {"ok": False, "missing": ["4 partitions are assigned and not restored yet"]})
    health.beat([])
    assert ask(url + "/readyz") == (200, {"ok": True, "missing": []})


def test_a_loop_that_hangs_is_neither(served: tuple[Health, str], clock: Clock) -> None:
    health, url = served
    health.beat([])
    clock.now_s += STUCK_S + 1
    for path in ("/healthz", "/readyz"):
        status, body = ask(url + path)
        assert status == 503
        assert "has not turned for 21 s" in body["missing"][0]


def test_any_other_path_is_the_metrics(served: tuple[Health, str]) -> None:
    health, url = served
    health.beat([])
    with urllib.request.urlopen(url + "/metrics") as reply:
        assert b"\npanther_ready 1.0\n" in reply.read()
