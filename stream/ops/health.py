"""`/healthz`, `/readyz` and `/metrics` of one worker, over HTTP.

The event loop writes what it knows of itself once a second (stream.worker.watch); the server's threads only read that,
so that a worker whose loop hangs is told from one that waits.
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

#: a loop that has not turned for so long hangs: batches take milliseconds, a bulk restore writes in a thread
STUCK_S = 20.0


class Health:
    """What a worker knows of itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s: float | None = None
        self._missing = ["the agent has not started"]

    def beat(self, missing: list[str]) -> None:
        """Called by the event loop, with what keeps the worker from serving; an empty list: nothing does."""
        self._beat_s, self._missing = self._clock(), missing
        metrics.READY.set(not missing)

    def not_alive(self) -> list[str]:
        """Why the process had better be restarted; empty: it is alive, though it may be restoring."""
        if self._beat_s is None:
            return self._missing
        silent_s = self._clock() - self._beat_s
        return [f"the event loop has not turned for {silent_s:.0f} s"] if silent_s > STUCK_S else []

    def not_ready(self) -> list[str]:
        """What keeps the worker from deciding with the live model; empty: nothing."""
        return self.not_alive() or self._missing


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A probe every few seconds is not worth a line."""


def wsgi_app(health: Health) -> Callable[..., Iterable[bytes]]:
    """The end points, as a WSGI application; any other path is answered with the metrics, as the library does."""
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
    """The server, bound and not yet serving; a thread a request. Raises OSError where the address is taken."""
    return make_server(host, port, wsgi_app(health), ThreadingWSGIServer, handler_class=_Quiet)
