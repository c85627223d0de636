"""The system of `panther chaos` and `bench fuzz`: Kafka, Triton replicas behind proxies, supervised workers, and a
process that keeps merchants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import psutil
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from bench.chaos.evidence import MERCHANTS, Place
from bench.chaos.inputs import InputLog
from bench.chaos.proxy import Proxy
from bench.chaos.traffic import Flow
from bench.topics import unread
from bench.waits import Stuck, within
from infra.create_topics import admin_of
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK, pick_free
from infra.local.process import ManagedProcess
from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.triton import TritonPorts, TritonServer
from panther_core.base.console import say
from panther_core.data.topics import LABELS, MERCHANT_EVENTS, TRANSACTIONS, merchants_app
from stream.faust_parts.producer import Outgoing, make_producer

_SUPERVISE_S = 0.2
_OWNERS_S = 1.0
_TRIES = 3  # starts of the stack: a server may be killed again while it starts
_PATIENCE_S = 90.0
_ANSWER_S = 30.0  # for one question to Kafka
_STORED_S = 120.0  # longer than any trouble keeps Kafka down


class ChaosStage:
    """Restarts what has stopped, except what a trouble keeps stopped, as a service manager would."""

    def __init__(self, system: System, proxies: list[Proxy], metrics_urls: list[str]) -> None:
        self.system, self.proxies, self._metrics_urls = system, proxies, metrics_urls
        self.pids = {part.name: part.pid or 0 for part in system.stack.status()}
        self.names: list[str] = []  # workers that should run, beside the process that keeps merchants
        self.down: set[str] = set()  # parts that a trouble keeps down
        self.restarts: list[str] = []
        self.moved = 0  # partitions that went to another worker
        self.stuck: list[str] = []  # what was waited for in vain
        self.flow, self.inputs = Flow(), InputLog(system.kafka)
        self.forged: set[Place] = set()  # records on output topics that no worker has written
        self._starting = asyncio.Lock()

    def note_stuck(self, what: str) -> None:
        """Something was waited for in vain: the run goes on, and is not ok."""
        self.stuck.append(what)
        say(f"  stuck: {what}")

    def start_workers(self, count: int) -> None:
        """Start `count` workers, named worker-0 and up, and the process that keeps merchants."""
        self.system.start_merchants(MERCHANTS)
        self.names = [f"worker-{i}" for i in range(count)]
        for name in self.names:
            self.system.start_worker(name)

    async def supervise(self) -> None:
        """Restart workers and servers that have ended; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_SUPERVISE_S)
            for name in (*self.names, MERCHANTS):
                process = self.system.workers.get(name)
                if name not in self.down and (process is None or not process.alive()):
                    self.restart_worker(name)
            if not self.down & {"kafka", "triton"} and not all(map(_is_running, self.pids.values())):
                self.restarts.append("stack")
                await self.start_missing()

    def restart_worker(self, name: str) -> None:
        """Start a worker, or the process that keeps merchants, after its end, and keep a copy of its log."""
        self.restarts.append(name)
        ended = self.system.workers.pop(name, None)
        if ended is not None:
            ended.stop()
            log = ended.log_path
            if log.exists():
                shutil.copy(log, log.with_name(f"{log.name}.{len(self.restarts)}"))
        (self.system.start_merchants if name == MERCHANTS else self.system.start_worker)(name)

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

    async def lag(self, group: str = "", topic: str = TRANSACTIONS) -> int:
        """Records of a topic that a group, the application's if not given, has not committed yet.

        Raises OSError, KafkaError, Stuck where Kafka does not say.
        """
        kafka, group = self.system.kafka, group or self.system.settings.app_id
        return await within(_ANSWER_S, "Kafka to say the group's lag", unread(kafka, group, topic))

    async def watch_owners(self) -> None:
        """Count the partitions that move from one worker to another; runs until it is cancelled."""
        owners: dict[int, str] = {}
        while True:
            await asyncio.sleep(_OWNERS_S)
            with contextlib.suppress(OSError, KafkaError, Stuck):
                for partition, owner in (await within(_ANSWER_S, "Kafka to name the owners", self._owners())).items():
                    self.moved += owners.get(partition, owner) != owner
                    owners[partition] = owner

    async def _owners(self) -> dict[int, str]:
        async with admin_of(self.system.kafka) as admin:
            (reply,) = await admin.describe_consumer_groups([self.system.settings.app_id])
        members = reply.groups[0][5]
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
            values = [line.rpartition(" ") for line in _fetch(url) if line.startswith("panther_cache_")]
            out.append({name.partition("{")[0].removeprefix("panther_cache_"): int(float(v)) for name, _, v in values})
        return out

    async def wait_until_told(self) -> None:
        """Wait until merchants know every decided payment and every label. Raises Stuck as `wait_until_decided`."""
        app_id = self.system.settings.app_id
        await self.wait_until_decided(f"{app_id}-labels", LABELS)
        await self.wait_until_decided(merchants_app(app_id), MERCHANT_EVENTS)

    async def wait_until_decided(self, group: str = "", topic: str = TRANSACTIONS) -> None:
        """Wait until the group has committed everything. Raises Stuck when its lag stays as it is."""
        last, why, heard_s = -1, "", time.monotonic()
        while time.monotonic() < heard_s + _PATIENCE_S:
            try:
                lag = await self.lag(group, topic)
            except (OSError, KafkaError, Stuck) as error:
                why = f" ({error})"
            else:
                if lag == 0:
                    return
                if lag != last:
                    last, why, heard_s = lag, "", time.monotonic()
            await asyncio.sleep(0.5)
        raise Stuck(f"expected all of {topic} dealt with and committed, {last} are not, for {_PATIENCE_S:.0f} s{why}")

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """While the context is open, nothing is sent, and all that was sent is decided. Raises Stuck if it is not."""
        async with self.flow.held():
            await self.wait_until_decided()
            yield

    @contextlib.asynccontextmanager
    async def workers_down(self, signum: signal.Signals) -> AsyncIterator[None]:
        """While the context is open, no worker runs; they end by this signal, SIGTERM or SIGKILL."""
        with contextlib.ExitStack() as down:
            for name in self.names:
                down.enter_context(self.kept_down(name))
            for name in self.names:
                if signum == signal.SIGKILL:
                    self.kill(name)
                elif name in self.system.workers:
                    await asyncio.to_thread(self.system.stop_worker, name)
            yield
        for name in self.names:
            if name not in self.system.workers:  # a worker that has stopped on request is known no more
                self.restart_worker(name)

    async def store(
        self,
        records: Iterable[tuple[str, Outgoing]],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[Place]:
        """Write records to topics as any producer may; where each is stored. Raises Stuck where Kafka is not there."""

        async def go() -> list[Place]:
            async with make_producer(self.system.kafka) as producer:
                sent = [
                    (topic, await producer.send(topic, value, key, partition, timestamp_ms, headers))
                    for topic, (key, value, headers) in records
                ]
                return [(topic, at.partition, at.offset) for topic, at in [(t, await done) for t, done in sent]]

        return await within(_STORED_S, "records to be stored", go())

    async def metric(self, name: str) -> float:
        """Sum of a metric over all workers that answer."""
        total = 0.0
        for worker in self.names:
            with contextlib.suppress(OSError):
                page = await asyncio.to_thread(_fetch, self.system.metrics_urls[worker] + "/metrics")
                total += sum(float(line.rpartition(" ")[2]) for line in page if re.match(rf"{name}[ {{]", line))
        return total

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
    for part in ("stack", "logs", MERCHANTS, *(f"worker-{i}" for i in numbers), *(f"more-{i}" for i in numbers)):
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


def _fetch(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=5) as page:
        return page.read().decode().splitlines()  # type: ignore[no-any-return]


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
