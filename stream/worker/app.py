"""The Faust application: its settings, its table of states, and one agent that runs the worker's parts.

The order of a micro-batch's steps, on which the guarantees rest, is the commit protocol in stream.worker.pipeline.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import TRANSACTIONS
from panther_core.decide.scoring import Scorer
from stream.faust_parts.application import faust_app, restored_table
from stream.faust_parts.internals import Arrivals
from stream.faust_parts.producer import Producer
from stream.ops.ending import Ending
from stream.ops.flood import DeadLetterNotice
from stream.ops.health import Health
from stream.scorer.encode_batcher import EncodeBatcher
from stream.worker.acker import Acker
from stream.worker.beside import agent_producers, run_beside, run_or_hold
from stream.worker.decided import DecidedStore
from stream.worker.intake import Placement
from stream.worker.label_reader import LabelReader
from stream.worker.live_models import LiveModels
from stream.worker.merchant_log import MerchantLog
from stream.worker.pipeline import Pipeline
from stream.worker.processor import Processor
from stream.worker.risk_book import RiskBook
from stream.worker.source_log import SourceLog
from stream.worker.state_store import StateStore
from stream.worker.suspension import Suspension
from stream.worker.sweep import VersionSweep
from stream.worker.user_commands import UserCommands
from stream.worker.warm_up import WarmUp
from stream.worker.watch import Watch
from stream.worker.worker_name import worker_name


def make_app(
    kafka: KafkaSettings,
    settings: PantherSettings,
    scorer: Scorer,
    health: Health | None = None,
    ending: Ending | None = None,
    server_problem: Callable[[], str | None] = lambda: None,
) -> Any:
    """The worker's application.

    `health`: gets the state of the worker once a second. `ending`: is told what the worker failed of. `server_problem`:
    returns what keeps the model server from answering, None when nothing does.
    """
    health = health or Health()
    ending = ending or Ending(health)
    app = faust_app(kafka, settings, settings.app_id)
    transactions = app.topic(TRANSACTIONS, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    table = restored_table(app, "state", settings.partitions, kafka)

    async def decide(stream: Any) -> None:
        warm_up = WarmUp(scorer, settings.sweep_users_per_s)
        models = LiveModels(kafka, settings.app_id, settings.models_key, warm_up, worker_name(Path(settings.data_dir)))
        with closing(DecidedStore(kafka, settings.app_id, settings.data_dir, settings.recall_hours)) as decided:
            async with agent_producers(kafka, settings, ending) as (producer, changelog, suspension):
                await decide_beside(stream, models, warm_up, decided, producer, changelog, suspension)

    async def decide_beside(
        stream: Any,
        models: LiveModels,
        warm_up: WarmUp,
        decided: DecidedStore,
        producer: Producer,
        changelog: Producer,
        suspension: Suspension,
    ) -> None:
        # Modules and models loaded by now stay for the life of the worker, and a record's many small objects hold no
        # cycles. With Python's defaults the garbage collector takes a fifth of the worker's time, in pauses that delay
        # decisions.
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        batcher = EncodeBatcher(scorer, settings.batch_max)
        store = StateStore(table, changelog)
        source = SourceLog(app, kafka, table, decided, settings.partitions)
        notice = DeadLetterNotice()
        placement = Placement(settings.partitions, settings.partitioner, settings.rates)
        merchants, book = MerchantLog(producer, settings.partitions), RiskBook(kafka)
        processor = Processor(
            app, models, warm_up, batcher, producer, store, decided, source, placement, notice, merchants, book
        )
        acker = Acker(app, table)
        labels = LabelReader(app, kafka, table, store, acker, merchants, settings.retention_days)
        pipeline = Pipeline(processor, acker, settings.batches_under_way, settings.batch_max)
        watch = Watch(app, table, models, acker, source, pipeline.waiting, health, server_problem, notice, book)
        sweep = VersionSweep(app, table, models, batcher, store, pipeline, acker, settings.sweep_users_per_s)
        # tasks of the agent, because `@app.task` starts its tasks only after recovery and after the first events
        tasks = {
            "acker": acker.run(),
            "live models": models.run(),
            "source log": source.run(),
            "watch": watch.run(stream.channel.queue),
            "suspension": suspension.run(),
            "labels": labels.run(),
            "old payments": labels.forget(),
            "risk book": book.run(),
            "user commands": UserCommands(app, kafka, store, pipeline, acker, decided.forget).run(),
        }
        if settings.sweep_users_per_s:
            tasks["sweep"] = sweep.run()

        async def work() -> None:
            await pipeline.run(Arrivals(stream, settings.batch_within_s, settings.batch_max))
            await acker.drained()

        await run_beside(work(), tasks)

    @app.agent(transactions, name="decide")
    async def decide_transactions(stream: Any) -> None:
        await run_or_hold(app, ending, decide(stream))

    return app
