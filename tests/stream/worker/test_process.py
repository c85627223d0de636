"""Worker processes on a real Kafka, without a model and without Triton: how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.local.kafka import KafkaBroker
from infra.local.ports import pick_free
from infra.local.process import ManagedProcess
from panther_core.base.errors import InvalidFile
from panther_core.base.settings import KafkaSettings, PantherSettings
from stream.worker.process import run_worker

_WORKER = """
import asyncio, sys
from infra.create_topics import create_topics
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.producer import make_producer
from stream.worker.process import run_worker
async def send():
    producer = make_producer(kafka)
    await producer.start()
    await producer.send_and_wait(TRANSACTIONS, b"no transaction", key=b"user")
    await producer.stop()
async def planted(*args):
    raise AttributeError("planted")
kafka, settings = KafkaSettings(), PantherSettings()
asyncio.run(create_topics(kafka, settings))
asyncio.run(send())
{plant}
run_worker(kafka, settings, "127.0.0.1", int(sys.argv[1]))
"""


class Worker(NamedTuple):
    """A worker process and the port of its /readyz."""

    process: ManagedProcess
    port: int


def start(folder: Path, kafka: str, plant: str = "") -> Worker:
    """A worker with one record to decide and no model to decide it with; `plant`: what is broken in it."""
    (port,) = pick_free(1)
    name = f"process-{uuid.uuid4().hex[:8]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "TRITON_URL": "127.0.0.1:1",
        "PANTHER_TOPIC_PREFIX": f"{name}.",
        "PANTHER_APP_ID": name,
        "PANTHER_PARTITIONS": "1",
        "PANTHER_DATA_DIR": str(folder / "state"),
    }
    argv = [sys.executable, "-c", _WORKER.format(plant=plant), str(port)]
    return Worker(ManagedProcess.start(name, argv, folder / "worker.log", env=os.environ | environment), port)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("stream.worker.processor.Processor.prepare", "at the records {topic} 0:0-0 (1): AttributeError: planted"),
        ("stream.faust_parts.recovery.BulkRecovery._build_offsets", "AttributeError: planted"),
    ],
)
def test_a_worker_ends_with_any_of_its_parts(broken: str, says: str, kafka: str, tmp_path: Path) -> None:
    module, part, method = broken.rsplit(".", 2)
    worker, _ = start(tmp_path, kafka, f"import {module}\n{module}.{part}.{method} = planted")
    try:
        assert worker.wait(60) == 1
    finally:
        worker.stop()
    log = (tmp_path / "worker.log").read_text()
    (line,) = [line for line in log.splitlines() if "the worker stops: " in line]
    assert line.partition("the worker stops: ")[2].strip() == says.format(topic=f"{worker.name}.transactions")
    assert log.index("the worker stops: ") < log.index("Traceback")


def asked(port: int) -> str:
    """The body of /readyz; empty where the worker does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


def wait_until(true: Callable[[], bool], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_worker_without_kafka_says_so_and_stops_when_told(tmp_path: Path) -> None:
    port, controller_port = pick_free(2)
    with KafkaBroker(tmp_path, port, controller_port) as broker:
        worker = start(tmp_path, broker.bootstrap)
        log = tmp_path / "worker.log"
        try:
            wait_until(lambda: "1 transactions wait, and none has been decided" in asked(worker.port))
            assert not [line for line in log.read_text().splitlines() if "[ERROR]" in line], "it waits for a model"
            kill(broker)
            before = len(log.read_text().splitlines())
            wait_until(lambda: "Kafka does not answer" in asked(worker.port))
            assert len(log.read_text().splitlines()) - before < 20, "more than 100 a second without the filter"
            broker.spawn()
            wait_until(lambda: "no longer missing: Kafka" in log.read_text())
            kill(broker)
            assert worker.process.stop(), "told to stop, it ends within ten seconds, Kafka or not"
        finally:
            worker.process.stop()


def kill(broker: KafkaBroker) -> None:
    """End a broker as a crash does."""
    assert broker.process is not None
    os.killpg(broker.process.ref.pid, signal.SIGKILL)
    broker.process.stop()


def test_a_worker_does_not_start_without_the_key_that_it_is_to_ask_for(tmp_path: Path) -> None:
    nowhere, settings = KafkaSettings(bootstrap_servers="127.0.0.1:1"), PantherSettings(models_key=tmp_path / "none")
    with pytest.raises(InvalidFile, match="expected a public key of minisign"):
        run_worker(nowhere, settings, "127.0.0.1", 0)
