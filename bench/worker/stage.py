"""What every contender of `panther bench worker`, `restore` and `memory` starts from: a broker, topics, a version."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.create_topics import create_topics
from infra.local.kafka import KafkaBroker
from infra.local.ports import pick_free
from infra.local.process import ManagedProcess
from panther_core.artifact import load_manifest
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.serving_model import load_serving_model
from trainer.fit.train_config import preset
from trainer.rollout.announce import announce
from trainer.training import train


@dataclass(frozen=True)
class BenchStage:
    """A running broker and its settings; `state_bytes` is the size of a state of the project's worker."""

    folder: Path
    kafka: KafkaSettings
    settings: PantherSettings
    state_bytes: int

    def start(self, module: str, *argv: str, settings: PantherSettings | None = None) -> ManagedProcess:
        """Start the contender in `bench.worker.MODULE` as a process of its own."""
        return self._start(module, [sys.executable, "-m", f"bench.worker.{module}", *argv], settings or self.settings)

    def start_merchants(self) -> ManagedProcess:
        """Start `panther merchants`."""
        command = [str(Path(sys.prefix) / "bin" / "panther"), "merchants", "--data-dir", str(self.folder / "merchants")]
        return self._start("merchants", command, self.settings)

    def _start(self, name: str, command: list[str], mine: PantherSettings) -> ManagedProcess:
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "PANTHER_APP_ID": mine.app_id,
            "PANTHER_MODELS_DIR": mine.models_dir,
            "PANTHER_DATA_DIR": mine.data_dir,
            "PANTHER_PARTITIONS": str(mine.partitions),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        return ManagedProcess.start(name, command, self.folder / "logs" / f"{name}.log", env=environment)

    async def make_topic(self, name: str, compact: bool = False) -> None:
        """Create a topic with the partition count of this stage."""
        admin = AIOKafkaAdminClient(**self.kafka.client_options())
        await admin.start()
        try:
            config = {"cleanup.policy": "compact"} if compact else {}
            await admin.create_topics([NewTopic(name, self.settings.partitions, 1, topic_configs=config)])
        finally:
            await admin.close()

    async def written(self, consumer: AIOKafkaConsumer, topic: str) -> int:
        """How many records have ever been appended to a topic: the sum of its end offsets."""
        parts = [TopicPartition(topic, p) for p in range(self.settings.partitions)]
        return sum((await consumer.end_offsets(parts)).values())


@contextmanager
def running_stage(folder: Path, length: int, partitions: int) -> Iterator[BenchStage]:
    """A broker in an emptied `folder`, with topics, and model version 1 (context of `length` events) announced."""
    shutil.rmtree(folder, ignore_errors=True)
    models = folder / "models"
    config = preset("tiny")
    # the model is never called: its version only sets the layout of the states
    shape = msgspec.structs.replace(preset("demo").model, length=length, layers=1)
    log = generate(GeneratorConfig(users=60, days=40, mean_transactions_per_day=2, seed=5))
    train(
        log, models / "1", config=msgspec.structs.replace(config, model=shape), version=1, label_delay_ms=DAY_MS,
        seed=0, profile=PROFILE,
    )  # fmt: skip
    port, controller = pick_free(2)
    with KafkaBroker(folder / "kafka", port, controller) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap)
        settings = PantherSettings(
            app_id="panther-worker", models_dir=str(models), data_dir=str(folder / "worker"), partitions=partitions
        )
        asyncio.run(create_topics(kafka, settings))
        asyncio.run(announce(kafka, load_manifest(models / "1"), str(models / "1")))
        codec = load_serving_model(models / "1").codec
        yield BenchStage(folder, kafka, settings, codec.dtype.itemsize)
