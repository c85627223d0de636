"""Worker processes on a real Kafka, without a model and without Triton: how they end."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import pytest

from infra.local.ports import pick_free
from infra.local.process import ManagedProcess

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


def start(folder: Path, kafka: str, plant: str = "") -> ManagedProcess:
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
    return ManagedProcess.start(name, argv, folder / "worker.log", env=os.environ | environment)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("stream.worker.processor.Processor.prepare", "at the records {topic} 0:0-0 (1): AttributeError: planted"),
        ("stream.worker.app.BulkRecovery._build_offsets", "AttributeError: planted"),
    ],
)
def test_a_worker_ends_with_any_of_its_parts(broken: str, says: str, kafka: str, tmp_path: Path) -> None:
    module, part, method = broken.rsplit(".", 2)
    worker = start(tmp_path, kafka, f"import {module}\n{module}.{part}.{method} = planted")
    try:
        assert worker.wait(60) == 1
    finally:
        worker.stop()
    log = (tmp_path / "worker.log").read_text()
    (line,) = [line for line in log.splitlines() if "the worker stops: " in line]
    assert line.partition("the worker stops: ")[2].strip() == says.format(topic=f"{worker.name}.transactions")
    assert log.index("the worker stops: ") < log.index("Traceback")
