"""One worker process: its event loop, log format, health server and scorer around the Faust application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from panther_core.base.settings import KafkaSettings, PantherSettings

if TYPE_CHECKING:
    from stream.ops.ending import Ending
    from stream.ops.health import Health


def run_worker(kafka: KafkaSettings, settings: PantherSettings, metrics_host: str, metrics_port: int) -> NoReturn:
    """Work until the process is told to stop, then exit. `metrics_port`: of /metrics, /healthz, /readyz; 0 = none.

    Raises KafkaUnavailable, TopicMismatch or InvalidFile (the models' key) before anything is begun.
    """
    from panther_core.signature import read_public_key
    from stream.worker.topic_check import require_topics

    if settings.models_key is not None:
        read_public_key(settings.models_key)
    asyncio.run(require_topics(kafka, settings))

    def make(health: Health, ending: Ending) -> Any:
        from stream.scorer.replicas import ReplicaScorer
        from stream.scorer.triton_control import TritonControl
        from stream.worker.app import make_app

        control = partial(TritonControl, headers=settings.triton_headers)
        deadlines = settings.score_deadline_s, settings.encode_deadline_s
        scorer = ReplicaScorer(settings.triton_url, *deadlines, control=control)
        return make_app(kafka, settings, scorer, health, ending, scorer.problem)

    run_app(settings, metrics_host, metrics_port, make)


def run_app(
    settings: PantherSettings, metrics_host: str, metrics_port: int, make: Callable[[Health, Ending], Any]
) -> NoReturn:
    """Run the Faust application that `make` gives until the process is told to stop, then exit."""
    import mode.loop

    mode.loop.use("uvloop")  # before Faust is imported
    from stream.faust_parts.worker import EndingWorker
    from stream.ops.ending import Ending
    from stream.ops.health import Health, make_http_server
    from stream.ops.logs import json_logging

    health = Health()
    ending = Ending(health)
    ending.start()
    if metrics_port:
        server = make_http_server(health, metrics_host, metrics_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    app = make(health, ending)
    log: dict[str, Any] = {"loglevel": "info"}
    if settings.log_format == "json":
        log |= {"logging_config": json_logging("INFO"), "quiet": True}  # quiet: Faust's banner is no log line
    EndingWorker(app, ending, **log).run()
