"""The Faust application of `panther merchants`, and its process."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, NoReturn

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import MERCHANT_EVENTS, merchants_app
from stream.ops.ending import Ending
from stream.ops.health import Health
from stream.worker.process import run_app

#: what is known of a merchant holds from the next full hour on, so no decision waits for it; a batch of a few events
#: costs almost as much as one of hundreds, and a merchant of many events is stored and published once
_WITHIN_S = 1.0
_NICE = 10  # decisions do not wait for merchants: on a busy machine workers and servers come first


def make_merchants_app(kafka: KafkaSettings, settings: PantherSettings, health: Health, ending: Ending) -> Any:
    """The application; topics are expected to exist (`panther topics create`)."""
    from stream.faust_parts.application import faust_app, restored_table
    from stream.faust_parts.internals import Arrivals
    from stream.merchants.agent import AT_ONCE, MerchantAgent
    from stream.merchants.live_threshold import LiveThreshold
    from stream.merchants.watch import watch
    from stream.worker.acker import Acker
    from stream.worker.beside import agent_producers, run_beside, run_or_hold
    from stream.worker.state_store import StateStore

    app = faust_app(kafka, settings, merchants_app(settings.app_id))
    events = app.topic(MERCHANT_EVENTS, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    table = restored_table(app, "merchants", settings.partitions, kafka)

    async def keep(stream: Any) -> None:
        async with agent_producers(kafka, settings, ending) as (producer, changelog, suspension):
            acker = Acker(app, table)
            threshold = LiveThreshold(kafka)
            agent = MerchantAgent(app, table, producer, StateStore(table, changelog), acker, threshold)
            tasks = {
                "acker": acker.run(),
                "watch": watch(app, table, acker, health),
                "suspension": suspension.run(),
                "live model": threshold.run(),
            }

            async def work() -> None:
                await agent.run(Arrivals(stream, max(settings.batch_within_s, _WITHIN_S), AT_ONCE))
                await acker.drained()

            await run_beside(work(), tasks)

    @app.agent(events, name="keep")
    async def keep_merchants(stream: Any) -> None:
        await run_or_hold(app, ending, keep(stream))

    return app


def run_merchants(kafka: KafkaSettings, settings: PantherSettings, metrics_host: str, metrics_port: int) -> NoReturn:
    """Work until the process is told to stop, then exit. Raises KafkaUnavailable or TopicMismatch before that."""
    from stream.worker.topic_check import require_topics

    asyncio.run(require_topics(kafka, settings, merchants=True))
    os.nice(_NICE)
    run_app(settings, metrics_host, metrics_port, partial(make_merchants_app, kafka, settings))
