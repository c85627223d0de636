"""The Faust application: its settings, its table of states, and one agent that runs the worker's parts.

The order of a micro-batch's steps, on which the guarantees rest, is the commit protocol in stream.worker.pipeline.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import faust
from faust.types.auth import CredentialsT

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import TRANSACTIONS, changelog_of
from panther_core.decide.scoring import Scorer
from stream.faust_parts.consumer import LowLatencyTransport
from stream.faust_parts.internals import Arrivals, DrainingApp
from stream.faust_parts.producer import make_producer
from stream.faust_parts.recovery import BulkRecovery, guard_applying, guard_opening, write_unlogged
from stream.ops.ending import Ending
from stream.ops.flood import DeadLetterNotice
from stream.ops.health import Health
from stream.scorer.encode_batcher import EncodeBatcher
from stream.worker.acker import Acker
from stream.worker.beside import run_beside
from stream.worker.decided import DecidedStore
from stream.worker.intake import Placement
from stream.worker.live_models import LiveModels
from stream.worker.pipeline import Pipeline
from stream.worker.processor import Processor
from stream.worker.source_log import SourceLog
from stream.worker.state_store import StateStore
from stream.worker.suspension import Suspension
from stream.worker.sweep import VersionSweep
from stream.worker.user_commands import UserCommands
from stream.worker.watch import Watch

#: seconds without a heartbeat after which the group gives a worker's partitions to others; seconds between heartbeats
SESSION_S, HEARTBEAT_S = 6.0, 1.5
#: the same limit for a worker with a static name: long enough for a restart, during which it keeps its partitions
STATIC_SESSION_S = 30.0

# RocksDB options hold for each partition: 64 partitions take 0.34 GB of memory, and 2.7 GB with the defaults
_STORE = {
    "driver": "rocksdict",
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "block_cache_size": 8 << 20,
    "bloom_filter_size": 10,
    "max_open_files": 128,
}


def broker_credentials(kafka: KafkaSettings) -> CredentialsT | None:
    """The Kafka security settings in Faust's classes; None for PLAINTEXT."""
    if kafka.security_protocol == "PLAINTEXT":
        return None
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(kafka.ssl_context)
    return faust.SASLCredentials(
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        mechanism=kafka.sasl_mechanism,
        ssl_context=kafka.ssl_context,
    )


def make_app(
    kafka: KafkaSettings,
    settings: PantherSettings,
    scorer: Scorer,
    health: Health | None = None,
    ending: Ending | None = None,
    server_problem: Callable[[], str | None] = lambda: None,
) -> faust.App:
    """The Faust application; topics are expected to exist (`panther topics create`).

    `health`: gets the state of the worker once a second. `ending`: is told what the worker failed of. `server_problem`:
    returns what keeps the model server from answering, None when nothing does.
    """
    health = health or Health()
    ending = ending or Ending(health)
    session_s = SESSION_S if settings.group_instance_id is None else STATIC_SESSION_S
    app = DrainingApp(
        settings.app_id,
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=broker_credentials(kafka),
        store="rocksdb://",
        datadir=settings.data_dir,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",  # with `value_type=bytes` alone Faust still decodes JSON
        stream_wait_empty=False,
        web_enabled=False,
        broker_commit_interval=1.0,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=10_000,  # a topic that was deleted and made anew is seen again after so long
        worker_redirect_stdouts=False,
        # 0 unless set, where Faust's default is 1: a standby applies every state record one by one, which takes a share
        # of the worker's time, and without a standby a bulk restore takes seconds
        table_standby_replicas=settings.standby_replicas,
        consumer_group_instance_id=settings.group_instance_id,
    )
    app.transport = LowLatencyTransport(app.conf.broker_consumer, app)
    transactions = app.topic(TRANSACTIONS, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    table = app.Table(
        "state",
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        recovery_buffer_size=5000,
        options=_STORE,
    )
    assert table.changelog_topic_name == changelog_of(settings.app_id)
    write_unlogged(table)
    guard_opening(table)
    guard_applying(table)
    app.tables._recovery = BulkRecovery(app, table, kafka)

    async def decide(stream: Any) -> None:
        producer, changelog, models = make_producer(kafka), make_producer(kafka), LiveModels(kafka, settings.app_id)
        await asyncio.gather(producer.start(), changelog.start())
        suspension = Suspension(session_s - HEARTBEAT_S - 0.5)  # the last heartbeat may have been sent an interval ago
        producer.before_request = changelog.before_request = suspension.check
        # Modules and models loaded by now stay for the life of the worker, and a record's many small objects hold no
        # cycles. With Python's defaults the garbage collector takes a fifth of the worker's time, in pauses that delay
        # decisions.
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        batcher = EncodeBatcher(scorer, settings.batch_max)
        store = StateStore(table, changelog)
        decided = DecidedStore(kafka, settings.app_id, settings.data_dir, settings.recall_hours)
        source = SourceLog(app, kafka, table, decided, settings.partitions)
        notice = DeadLetterNotice()
        placement = Placement(settings.partitions, settings.partitioner)
        processor = Processor(app, models, batcher, producer, store, decided, source, placement, notice)
        acker = Acker(app, table)
        pipeline = Pipeline(processor, acker, settings.batches_under_way, settings.batch_max)
        watch = Watch(app, table, models, acker, source, pipeline.waiting, health, server_problem, notice)
        sweep = VersionSweep(app, table, models, batcher, store, pipeline, acker, settings.sweep_users_per_s)
        # tasks of the agent, because `@app.task` starts its tasks only after recovery and after the first events
        tasks = {
            "acker": acker.run(),
            "live models": models.run(),
            "source log": source.run(),
            "watch": watch.run(stream.channel.queue),
            "suspension": suspension.run(),
            "user commands": UserCommands(app, kafka, store, pipeline, acker, decided.forget).run(),
        }
        if settings.sweep_users_per_s:
            tasks["sweep"] = sweep.run()

        async def work() -> None:
            await pipeline.run(Arrivals(stream, settings.batch_within_s))
            await acker.drained()

        try:
            await run_beside(work(), tasks)
        except Exception as error:
            ending.fail(error)  # before the producers stop, which may take long
            raise
        finally:
            await asyncio.gather(producer.stop(), changelog.stop())
            decided.close()

    @app.agent(transactions, name="decide")
    async def decide_transactions(stream: Any) -> None:
        try:
            await decide(stream)
        except Exception as error:
            app.failed = True
            ending.fail(error)
            # Faust would ack and commit the failed batch, and begin the agent anew beside what is left of this one. A
            # worker that is started again gets the batch again.
            await asyncio.Event().wait()

    return app
