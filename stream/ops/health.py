"""`/healthz`, `/readyz` and `/metrics` of one worker, over HTTP.

The event loop writes its condition into `Health` once a second (stream.worker.watch). The server's threads only read
`Health`, so they can tell a worker whose event loop hangs from a worker that waits for records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from stream.ops import metrics

#: An event loop that has not turned for so long hangs: batches take milliseconds, a bulk restore writes in a thread.
STUCK_S = 20.0


class Health:
    """What a worker reports of itself: when its event loop last turned, and what keeps it from serving."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s: float | None = None
        self._missing = ["the agent has not started"]
        self._failed: str | None = None

    def beat(self, missing: list[str]) -> None:
        """Called by the event loop. `missing`: what keeps the worker from serving, empty where nothing does."""
        self._beat_s, self._missing = self._clock(), missing
        metrics.READY.set(not missing and self._failed is None)

    def fail(self, why: str) -> None:
        """The worker ends for this reason: from now on it is neither alive nor ready, whatever still beats."""
        self._failed = self._failed or why
        metrics.READY.set(0)

    def not_alive(self) -> list[str]:
        """Why the process should be restarted; empty where it is alive, even if it is still restoring."""
        if self._failed is not None:
            return [self._failed]
        if self._beat_s is None:
            return self._missing
        silent_s = self._clock() - self._beat_s
        return [f"the event loop has not turned for {silent_s:.0f} s"] if silent_s > STUCK_S else []

    def not_ready(self) -> list[str]:
        """What keeps the worker from deciding with the live model; empty where nothing does."""
        return self.not_alive() or self._missing


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a probe every few seconds would fill the log."""


def wsgi_app(health: Health) -> Callable[..., Iterable[bytes]]:
    """The end points as a WSGI application; any other path gets the metrics, as in prometheus_client's own server."""
    scrape = make_wsgi_app()
    probes = {"/healthz": health.not_alive, "/readyz": health.not_ready}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        probe = probes.get(environ["PATH_INFO"])
        if probe is None:
            return scrape(environ, start_response)  # type: ignore[no-any-return]
        missing = probe()
        start_response("503 Service Unavailable" if missing else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"ok": not missing, "missing": missing}).encode()]

    return answer


def make_http_server(health: Health, host: str, port: int) -> ThreadingWSGIServer:
    """The HTTP server, bound to its address and not yet serving, with a thread for each request.

    Raises OSError where the address is taken.
    """
    return make_server(host, port, wsgi_app(health), ThreadingWSGIServer, handler_class=_Quiet)
