"""A whole system on this machine: stack, deployed model, topics, seeded states, workers.

The demo, the benchmarks and the end-to-end tests use it, so that all three run what an operator runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import psutil

from infra.create_topics import create_topics
from infra.local.errors import StartFailed
from infra.local.ports import pick_free
from infra.local.process import ManagedProcess
from infra.local.stack import LocalStack
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.kafka.reading import members
from panther_core.serving_model import ServingModel, load_serving_model
from stream.tools.seed import seed
from trainer.rollout.refresh import switch


class System:
    """The system whose files lie below `folder`. On leaving the context every process of it is stopped.

    `app_id` names the consumer group and the changelog: a new `app_id` is a new application on the same brokers.
    """

    def __init__(self, folder: Path, stack: LocalStack, app_id: str, partitions: int = 8) -> None:
        self.folder, self.stack = folder, stack
        self.kafka = KafkaSettings()
        self.settings = PantherSettings(app_id=app_id, models_dir=str(folder / "models"), partitions=partitions)
        self.workers: dict[str, ManagedProcess] = {}
        self.metrics_urls: dict[str, str] = {}  # http://host:port of each worker's /metrics, /healthz, /readyz
        self._pids: dict[str, int] = {}
        self._exit = ExitStack()

    def __enter__(self) -> System:
        self._exit.enter_context(self.stack)
        self._exit.callback(self.stop_workers)
        try:
            parts = {part.name: part for part in self.stack.status()}
            self._pids = {name: part.pid for name, part in parts.items() if part.pid}
            self.kafka = KafkaSettings(bootstrap_servers=parts["kafka"].address)
            update: dict[str, str | None] = {"triton_url": parts["triton"].address}
            if not parts["triton"].external:
                update |= {"triton_key": None, "triton_key_file": str(self.stack.key_file)}
            self.settings = self.settings.model_copy(update=update)
            asyncio.run(create_topics(self.kafka, self.settings))
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a command that should act on this system."""
        keys = () if self.settings.triton_key else ("TRITON_KEY", "PANTHER_TRITON_KEY")  # those are another server's
        return {name: value for name, value in os.environ.items() if name not in keys} | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TRITON_URL": self.settings.triton_url,
            "PANTHER_TRITON_KEY_FILE": self.settings.triton_key_file,
            "PANTHER_APP_ID": self.settings.app_id,
            "PANTHER_MODELS_DIR": self.settings.models_dir,
            "PANTHER_PARTITIONS": str(self.settings.partitions),
            "PANTHER_SCORE_DEADLINE_S": str(self.settings.score_deadline_s),
            "PANTHER_LOG_FORMAT": self.settings.log_format,
            "PANTHER_STANDBY_REPLICAS": str(self.settings.standby_replicas),
        }

    def deploy(self, version: int) -> ServingModel:
        """Load a trained version into Triton and make it live."""
        switch(self.kafka, self.settings, self.stack.model_repository, version)
        return load_serving_model(Path(self.settings.models_dir) / str(version))

    def seed(self, log: TransactionTable, model: ServingModel, label_delay_ms: int = 7 * DAY_MS) -> int:
        """As stream.tools.seed.seed: give users and merchants their past before the first worker starts; returns the
        number of users."""
        return asyncio.run(seed(self.kafka, self.settings, log, model, label_delay_ms))

    def start_worker(self, name: str = "worker", folder: str = "", **environment: str) -> ManagedProcess:
        """Start a worker process with its own RocksDB folder; does not wait until it has its partitions.

        `folder`: name of that folder if it is not the worker's. `environment`: variables of this worker, in addition
        to the property `environment`.
        """
        return self._start("worker", name, folder or name, environment)

    def start_merchants(self, name: str = "merchants", folder: str = "", **environment: str) -> ManagedProcess:
        """As start_worker, a process that keeps merchants' histories; stopped and killed as workers are."""
        return self._start("merchants", name, folder or name, environment)

    def _start(self, command: str, name: str, folder: str, environment: dict[str, str]) -> ManagedProcess:
        (port,) = pick_free(1)
        self.metrics_urls[name] = f"http://127.0.0.1:{port}"
        options = ["--data-dir", str(self.folder / folder), "--metrics-port", str(port)]
        process = ManagedProcess.start(
            name,
            [str(Path(sys.prefix) / "bin" / "panther"), command, *options],
            self.folder / "logs" / f"{name}.log",
            env=self.environment | environment,
        )
        self.workers[name] = process
        return process

    def wait_ready(self, *names: str, patience_s: float = 120) -> None:
        """Wait until /readyz of each process answers 200. Raises StartFailed with its last answer."""
        deadline = time.monotonic() + patience_s
        for name in names:
            said = "nothing"
            while said:
                process = self.workers[name]
                if time.monotonic() > deadline or not process.alive():
                    raise StartFailed(name, f"not ready: {said}", process.log_path, process.log_tail())
                time.sleep(0.2)
                try:
                    with urllib.request.urlopen(self.metrics_urls[name] + "/readyz", timeout=5):
                        said = ""
                except urllib.error.HTTPError as error:
                    said = error.read().decode()
                except OSError as error:
                    said = str(error)

    def members(self) -> int:
        """Number of workers in the consumer group; 0 while its partitions are being assigned."""
        return asyncio.run(members(self.kafka, self.settings.app_id)) or 0

    def kill_worker(self, name: str = "worker") -> None:
        """End a worker by SIGKILL, for crash tests."""
        process = self.workers.pop(name)
        os.killpg(process.ref.pid, signal.SIGKILL)
        process.stop()

    def stop_worker(self, name: str = "worker") -> bool:
        """Send SIGTERM to a worker; returns whether the worker ended by itself within the grace period."""
        return self.workers.pop(name).stop()

    def check_workers(self) -> None:
        """Raise StartFailed, with the end of the log, when a worker that should run has ended."""
        for name, process in self.workers.items():
            if not process.alive():
                raise StartFailed(name, "it ended under load", process.log_path, process.log_tail())

    def stop_workers(self) -> None:
        """Send SIGTERM to every worker, and wait until it has ended."""
        for process in self.workers.values():
            process.stop()
        self.workers.clear()

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds used so far by each worker and each server of the stack, its children included."""
        pids = {name: p.ref.pid for name, p in self.workers.items()} | self._pids
        out: dict[str, float] = {}
        for name, pid in pids.items():
            try:
                root = psutil.Process(pid)
                times = [p.cpu_times() for p in (root, *root.children(recursive=True))]
            except psutil.NoSuchProcess:
                continue
            out[name] = round(sum(t.user + t.system for t in times), 2)
        return out

    def triton_pid(self) -> int:
        """Id of the process that leads the group of the local Triton server.

        It is another one after a restart. Raises StopIteration where Triton does not run, or runs elsewhere.
        """
        return next(part.pid for part in self.stack.status() if part.name == "triton" and part.pid)

    def memory_mb(self, name: str = "worker") -> float:
        """Resident memory of a worker, MB."""
        return float(round(psutil.Process(self.workers[name].ref.pid).memory_info().rss / 1e6, 1))


def fresh_app_id(prefix: str) -> str:
    """An application id with the present second in it, so that no earlier run has used it."""
    return f"{prefix}-{int(time.time())}"
