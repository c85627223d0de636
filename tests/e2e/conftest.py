"""The system that the end-to-end tests share: real Kafka, Triton, RocksDB and workers, and a tiny model."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from panther_core.data.topics import changelog_of
from panther_core.kafka.reading import read_topic
from panther_core.serving_model import load_serving_model
from stream.faust_parts.producer import make_producer
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce, produce_labels
from stream.tools.seed import load_past
from trainer.fit.train_config import preset
from trainer.training import train

LABEL_DELAY_MS = 86_400_000


@dataclass
class Stage:
    """A running system, the history that its users' states were seeded with, and the transactions left to stream."""

    system: System
    history: TransactionTable
    live: TransactionTable

    def produce(self, table: TransactionTable, rate: float = 0) -> None:
        """Send every row of `table`."""
        asyncio.run(produce(self.system.kafka, table.rows(), rate))

    def send(self, records: list[tuple[bytes | None, bytes]]) -> None:
        """Send raw (key, value) records."""

        async def go() -> None:
            producer = make_producer(self.system.kafka)
            await producer.start()
            try:
                for key, value in records:
                    await producer.send_and_wait("transactions", value, key=key)
            finally:
                await producer.stop()

        asyncio.run(go())

    def ask(self, path: str, worker: str = "worker") -> tuple[int, str]:
        """Status and body of an answer from a worker's HTTP server."""
        try:
            with urllib.request.urlopen(self.system.metrics_urls[worker] + path, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, worker: str = "worker", **labels: str) -> float:
        """Sum over the samples of a worker's metric `name` that have these labels."""
        families = text_string_to_metric_families(self.ask("/metrics", worker)[1])
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def wait_ready(self, *workers: str, patience_s: float = 60) -> None:
        """Wait until /readyz of each worker answers 200; raises AssertionError with its last answer."""
        deadline = time.monotonic() + patience_s
        for worker in workers:
            status, said = 0, "not asked"
            while status != 200:
                assert time.monotonic() < deadline, f"{worker}: {said}"
                time.sleep(0.2)
                try:
                    status, said = self.ask("/readyz", worker)
                except OSError as error:  # the worker does not listen yet
                    said = str(error)

    def states(self) -> dict[str, np.void]:
        """Every user's newest state on the changelog."""
        topic = changelog_of(self.system.settings.app_id)
        records = asyncio.run(read_topic(self.system.kafka, topic))
        newest = {r.key.decode(): r.value for r in records if r.key[:1] != b"\0"}  # else: what lies beside the states
        folder = Path(self.system.settings.models_dir) / "1"
        states = load_serving_model(folder).codec.decode(list(newest.values()))
        return dict(zip(newest, states, strict=True))

    def collect(self, decisions: set[str], dead: int = 0, patience_s: float = 30) -> Ledger:
        """Every record published until these transactions are decided and `dead` dead letters exist, or time is up."""

        async def go() -> Ledger:
            async with LedgerReader(self.system.kafka, from_beginning=True) as reader:
                deadline = asyncio.get_running_loop().time() + patience_s
                while asyncio.get_running_loop().time() < deadline:
                    quiet = not await reader.poll(0.5)
                    done = decisions <= reader.ledger.decisions.keys() and reader.ledger.dead.total() >= dead
                    if quiet and done:
                        break
                return reader.ledger

        return asyncio.run(go())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("system")
    table = generate(GeneratorConfig(users=150, days=60, merchants=80, mean_transactions_per_day=2, seed=1))
    cut = int(len(table) * 0.75)
    history, live = table.take(slice(0, cut)), table.take(slice(cut, None))
    train(
        history,
        folder / "models" / "1",
        config=structs.replace(preset("tiny"), alert_budget=0.03),  # so that some of few payments are alerts
        version=1,
        label_delay_ms=LABEL_DELAY_MS,
        seed=0,
        profile=PROFILE,
    )
    with System(folder, LocalStack.on_free_ports(folder / "stack"), fresh_app_id("test"), partitions=4) as system:
        # a long deadline, so that a busy machine is not taken for an outage
        system.settings = system.settings.model_copy(update={"score_deadline_s": 5.0, "log_format": "json"})
        system.deploy(1)
        asyncio.run(produce(system.kafka, history.rows(), rate=0))
        asyncio.run(produce_labels(system.kafka, history, LABEL_DELAY_MS))
        asyncio.run(load_past(system.kafka, system.settings, history, True, LABEL_DELAY_MS))
        system.start_worker()
        yield Stage(system, history, live)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure come the workers' warnings: the machine that saw it may be gone by the time somebody looks."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and isinstance(stage, Stage):
        for path in sorted((stage.system.folder / "logs").glob("*.log*")):
            lines = [line for line in path.read_text(errors="replace").splitlines() if '"level": "info"' not in line]
            report.sections.append((f"{path.name} without INFO", "\n".join(lines[-60:])))
    return report
