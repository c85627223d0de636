"""What this project's Faust applications have in common: settings, consumer, and tables restored in bulk."""

from __future__ import annotations

from typing import Any

import faust
from faust.types.auth import CredentialsT

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import changelog_of
from stream.faust_parts.consumer import LowLatencyTransport
from stream.faust_parts.internals import DrainingApp
from stream.faust_parts.recovery import BulkRecovery, guard_applying, guard_opening, write_unlogged

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


def session_s(settings: PantherSettings) -> float:
    """Seconds without a heartbeat after which the group gives this process's partitions to others."""
    return SESSION_S if settings.group_instance_id is None else STATIC_SESSION_S


def faust_app(kafka: KafkaSettings, settings: PantherSettings, app_id: str) -> Any:
    """An application without agents; topics are expected to exist (`panther topics create`)."""
    app = DrainingApp(
        app_id,
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
        broker_session_timeout=session_s(settings),
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
    return app


def restored_table(app: Any, name: str, partitions: int, kafka: KafkaSettings) -> Any:
    """The application's one table: RocksDB stores without a log of their own, restored from the changelog in bulk."""
    table = app.Table(
        name,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        recovery_buffer_size=5000,
        options=_STORE,
    )
    assert table.changelog_topic_name == changelog_of(app.conf.id, name)
    write_unlogged(table)
    guard_opening(table)
    guard_applying(table)
    app.tables._recovery = BulkRecovery(app, table, kafka)
    return table
