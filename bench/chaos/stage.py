"""The system of `panther chaos` and `bench fuzz`: Kafka, Triton replicas behind proxies, supervised workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from bench.chaos.proxy import Proxy
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK, pick_free
from infra.local.process import ManagedProcess
from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.triton import TritonPorts, TritonServer
from panther_core.base.console import say
from panther_core.data.topics import TRANSACTIONS

_SUPERVISE_S = 0.2
_OWNERS_S = 1.0
_TRIES = 3  # starts of the stack: a server may be killed again while it starts
_PATIENCE_S = 90.0


class ChaosStage:
    """Restarts what has stopped, except what a trouble keeps stopped, as a service manager would."""

    def __init__(self, system: System, proxies: list[Proxy], metrics_urls: list[str]) -> None:
        self.system, self.proxies, self._metrics_urls = system, proxies, metrics_urls
        self.pids = {part.name: part.pid or 0 for part in system.stack.status()}
        self.names: list[str] = []  # workers that should run
        self.down: set[str] = set()  # parts that a trouble keeps down
        self.restarts: list[str] = []
        self.moved = 0  # partitions that went to another worker
        self._starting = asyncio.Lock()

    def start_workers(self, count: int) -> None:
        """Start `count` workers, named worker-0 and up."""
        self.names = [f"worker-{i}" for i in range(count)]
        for name in self.names:
            self.system.start_worker(name)

    async def supervise(self) -> None:
        """Restart workers and servers that have ended; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_SUPERVISE_S)
            for name in self.names:
                process = self.system.workers.get(name)
                if name not in self.down and (process is None or not process.alive()):
                    self.restart_worker(name)
            if not self.down & {"kafka", "triton"} and not all(map(_is_running, self.pids.values())):
                self.restarts.append("stack")
                await self.start_missing()

    def restart_worker(self, name: str) -> None:
        """Start a worker that has ended, and keep a copy of its log."""
        self.restarts.append(name)
        ended = self.system.workers.pop(name, None)
        if ended is not None:
            ended.stop()
            log = ended.log_path
            if log.exists():
                shutil.copy(log, log.with_name(f"{log.name}.{len(self.restarts)}"))
        self.system.start_worker(name)

    async def start_missing(self) -> None:
        """Start what is down of Kafka and Triton. Raises StackError when it does not start in three tries."""
        async with self._starting:
            for left in range(_TRIES - 1, -1, -1):
                try:
                    parts = await asyncio.to_thread(self.system.stack.up, False)
                except StackError:
                    if not left:
                        raise
                else:
                    self.pids = {part.name: part.pid or 0 for part in parts}
                    return

    async def lag(self) -> int:
        """Records that the group has not committed yet. Raises OSError, KafkaError where Kafka does not say."""
        kafka, group = self.system.kafka, self.system.settings.app_id
        async with AIOKafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False) as consumer:
            parts = [TopicPartition(TRANSACTIONS, p) for p in range(self.system.settings.partitions)]
            ends = await consumer.end_offsets(parts)
            return sum([ends[part] - (await consumer.committed(part) or 0) for part in parts])

    async def watch_owners(self) -> None:
        """Count the partitions that move from one worker to another; runs until it is cancelled."""
        owners: dict[int, str] = {}
        while True:
            await asyncio.sleep(_OWNERS_S)
            with contextlib.suppress(OSError, KafkaError):
                for partition, owner in (await self._owners()).items():
                    self.moved += owners.get(partition, owner) != owner
                    owners[partition] = owner

    async def _owners(self) -> dict[int, str]:
        admin = AIOKafkaAdminClient(**self.system.kafka.client_options())
        await admin.start()
        try:
            (reply,) = await admin.describe_consumer_groups([self.system.settings.app_id])
            members = reply.groups[0][5]
        finally:
            await admin.close()
        owners: dict[int, str] = {}
        for member, _, _, _, assignment in members:
            if assignment:
                for topic, partitions in ConsumerProtocolMemberAssignment.decode(assignment).assignment:
                    owners |= dict.fromkeys(partitions if topic == TRANSACTIONS else (), member)
        return owners

    def caches(self) -> list[dict[str, int]]:
        """Counters of each Triton replica's cache of users, since that server started."""
        out = []
        for url in self._metrics_urls:
            with urllib.request.urlopen(url, timeout=5) as page:
                lines = page.read().decode().splitlines()
            values = [line.rpartition(" ") for line in lines if line.startswith("panther_cache_")]
            out.append({name.partition("{")[0].removeprefix("panther_cache_"): int(float(v)) for name, _, v in values})
        return out

    async def wait_until_decided(self) -> None:
        """Wait until the group has committed everything, or its lag has not changed for `_PATIENCE_S`."""
        last, heard_s = -1, time.monotonic()
        while time.monotonic() < heard_s + _PATIENCE_S:
            with contextlib.suppress(OSError, KafkaError):
                lag = await self.lag()
                if lag == 0:
                    return
                if lag != last:
                    last, heard_s = lag, time.monotonic()
            await asyncio.sleep(0.5)
        say(f"  gave up: {last} records are still uncommitted, and nothing has moved for {_PATIENCE_S:.0f} s")

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part of the stack and its helpers, or a worker."""
        worker: ManagedProcess | None = self.system.workers.get(name)
        pid = worker.ref.pid if worker else self.pids[name]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signum)
        if worker and signum == signal.SIGKILL:
            worker.stop()  # waits for its end: the next step may delete its folder

    @contextlib.contextmanager
    def kept_down(self, name: str) -> Iterator[None]:
        """While the context is open, the supervisor does not restart this part."""
        self.down.add(name)
        try:
            yield
        finally:
            self.down.discard(name)


@contextlib.asynccontextmanager
async def running_stage(folder: Path, workers: int, replicas: int, partitions: int) -> AsyncIterator[ChaosStage]:
    """A system with model version 1, `replicas` Triton servers and `workers` workers; all is stopped at exit."""
    numbers = range(max(workers, replicas) + 8)  # names that an earlier run, maybe a larger one, may have left
    for part in ("stack", "logs", *(f"worker-{i}" for i in numbers), *(f"more-{i}" for i in numbers)):
        shutil.rmtree(folder / part, ignore_errors=True)
    kafka_port, controller_port, *free = pick_free(5)
    ports = TritonPorts(*free)
    stack = LocalStack(folder / "stack", kafka_port, ports, controller_port=controller_port)
    system = await asyncio.to_thread(System(folder, stack, fresh_app_id("chaos"), partitions).__enter__)
    async with contextlib.AsyncExitStack() as leave:
        leave.push_async_callback(asyncio.to_thread, system.__exit__, None, None, None)
        await asyncio.to_thread(system.deploy, 1)
        more = [
            TritonServer(stack.model_repository, folder / f"more-{i}", TritonPorts.free(), key=stack.key)
            for i in range(1, replicas)
        ]
        for server in more:
            leave.push_async_callback(asyncio.to_thread, server.stop)
            await asyncio.to_thread(server.start)
        urls = [system.settings.triton_url, *(server.grpc_url for server in more)]
        proxies = [await leave.enter_async_context(Proxy(url)) for url in urls]
        through = ",".join(proxy.address for proxy in proxies)
        system.settings = system.settings.model_copy(update={"triton_url": through})
        first = f"http://{LOOPBACK}:{ports.metrics}/metrics"
        stage = ChaosStage(system, proxies, [first, *(server.metrics_url for server in more)])
        stage.start_workers(workers)
        yield stage


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
