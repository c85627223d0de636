"""The Faust application of `panther merchants`, and its process."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, NoReturn

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import MERCHANT_EVENTS, merchants_app
from stream.ops.ending import Ending
from stream.ops.health import Health
from stream.worker.process import run_app


def make_merchants_app(kafka: KafkaSettings, settings: PantherSettings, health: Health, ending: Ending) -> Any:
    """The application; topics are expected to exist (`panther topics create`)."""
    from stream.faust_parts.application import HEARTBEAT_S, faust_app, restored_table, session_s
    from stream.faust_parts.internals import Arrivals
    from stream.faust_parts.producer import make_producer
    from stream.merchants.agent import MerchantAgent
    from stream.merchants.watch import watch
    from stream.worker.acker import Acker
    from stream.worker.beside import run_beside
    from stream.worker.state_store import StateStore
    from stream.worker.suspension import Suspension

    app = faust_app(kafka, settings, merchants_app(settings.app_id))
    events = app.topic(MERCHANT_EVENTS, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    table = restored_table(app, "merchants", settings.partitions, kafka)

    async def keep(stream: Any) -> None:
        producer, changelog, acker = make_producer(kafka), make_producer(kafka), Acker(app, table)
        await asyncio.gather(producer.start(), changelog.start())
        suspension = Suspension(session_s(settings) - HEARTBEAT_S - 0.5)
        producer.before_request = changelog.before_request = suspension.check
        agent = MerchantAgent(app, table, producer, StateStore(table, changelog), acker)
        tasks = {"acker": acker.run(), "watch": watch(app, table, acker, health), "suspension": suspension.run()}

        async def work() -> None:
            await agent.run(Arrivals(stream, settings.batch_within_s))
            await acker.drained()

        try:
            await run_beside(work(), tasks)
        except Exception as error:
            ending.fail(error)  # before the producers stop, which may take long
            raise
        finally:
            await asyncio.gather(producer.stop(), changelog.stop())

    @app.agent(events, name="keep")
    async def keep_merchants(stream: Any) -> None:
        try:
            await keep(stream)
        except Exception as error:
            app.failed = True
            ending.fail(error)
            await asyncio.Event().wait()  # as in stream.worker.app

    return app


def run_merchants(kafka: KafkaSettings, settings: PantherSettings, metrics_host: str, metrics_port: int) -> NoReturn:
    """Work until the process is told to stop, then exit. Raises KafkaUnavailable or TopicMismatch before that."""
    from stream.worker.topic_check import require_topics

    asyncio.run(require_topics(kafka, settings, merchants=True))
    run_app(settings, metrics_host, metrics_port, partial(make_merchants_app, kafka, settings))
