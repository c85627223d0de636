"""The demo: trains a model, streams transactions through the whole system on real servers, and checks the outcome."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from infra.demo_view import DemoProgress, known_labels, summary
from infra.local.kernels import compile_kernels
from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.training import LABEL_DELAY_MS, train_once
from panther_core import artifact
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.generator.malformed import KINDS, malformed
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.data.topics import TRANSACTIONS
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.model.blend import BOOSTING
from panther_core.model.kernels.tree_kernel import sum_of
from panther_core.model.trees import read_trees
from panther_core.serving_model import load_serving_model
from panther_core.state.features import WIDTH
from panther_core.state.history import prepare
from stream.faust_parts.producer import make_producer
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce, produce_history, produce_labels

GENERATOR = GeneratorConfig(users=3000, days=90, mean_transactions_per_day=1.3, seed=7)
_REFRESH_AT = 0.1  # share of the transactions after which the refresh starts, which takes long beside the stream
_SLOWER = 4  # divides the stream's rate while the refresh trains, which then gets the rest of the machine
_RESERVE_S = 120  # of transactions at the full rate are kept back, to stream while the refresh outlasts those asked for
_MOVED = 2000  # at least so many transactions are streamed after the refreshed model has taken over
_MALFORMED = 60
_PATIENCE_S = 90.0  # for the worker to start, and after the last transaction for the last decision


@dataclass
class Demo:
    """One run of the demo: its folder, the transactions and the rate a second asked for, and its progress."""

    folder: Path
    transactions: int
    rate: float
    progress: DemoProgress = field(default_factory=DemoProgress)


def run_demo(folder: Path, transactions: int, rate: float) -> dict[str, Any]:
    """Run the demo below `folder`, with `transactions` at `rate` a second.

    Returns the summary, whose `ok` says whether every check held. Raises BadInput when the generated log is too small.
    """
    demo = Demo(folder, transactions, rate)
    stage = demo.progress.stage
    with stage("generate"):
        table = generate(GENERATOR)
        reserve = transactions + int(rate * _RESERVE_S)
        if len(table) <= 2 * reserve:
            raise BadInput(
                f"expected transactions + {_RESERVE_S} s of the rate to be at most {len(table) // 2}, got {reserve}: "
                "ask for fewer --transactions or a lower --rate"
            )
        history, live = table.take(slice(0, len(table) - reserve)), table.take(slice(len(table) - reserve, None))
    shutil.rmtree(folder / "stack", ignore_errors=True)
    shutil.rmtree(folder / "worker", ignore_errors=True)
    with ExitStack() as running:
        with ThreadPoolExecutor(1) as beside:
            servers = beside.submit(_start_servers, demo, running, history)
            with stage("train"):
                train_once(folder, history, key=f"{GENERATOR} {reserve}")
        system = servers.result()
        with stage("start"):
            users = system.seed(history, system.deploy(1), LABEL_DELAY_MS)
            say(f"  {users} users have a history of {len(history)} transactions")
            system.start_merchants()
            system.start_worker()
        with stage("stream"):
            stream = _Stream(demo, system, history, live)
            asyncio.run(stream.run())
            memory_mb = system.memory_mb()
    sent = live.take(slice(0, stream.sent))
    boosting = _boosting_alerts(Path(system.settings.models_dir), history, sent, stream.ledger)
    figures = summary(sent, stream.ledger, stream.malformed, stream.refreshed, boosting)
    return figures | {"worker_memory_mb": memory_mb, "seconds": demo.progress.seconds}


def _start_servers(demo: Demo, running: ExitStack, history: TransactionTable) -> System:
    """Do the work that needs no model, while the model trains.

    Starts Kafka and Triton, sends the history and its labels to the topics, and compiles the kernels.
    """
    # in a process of its own, because a thread would hold the interpreter's lock and slow the training down
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        with demo.progress.stage("servers"):
            stack = LocalStack(demo.folder / "stack")
            system = running.enter_context(System(demo.folder, stack, fresh_app_id("panther-demo")))
        with demo.progress.stage("log"):
            process.submit(produce_history, system.kafka, history, LABEL_DELAY_MS).result()
        with demo.progress.stage("kernels"):
            process.submit(compile_kernels).result()
    return system


def _boosting_alerts(models_dir: Path, history: TransactionTable, sent: TransactionTable, ledger: Ledger) -> set[str]:
    """What gradient boosting without PANTHER would have alerted: as many transactions of each version as were alerted,
    by the version's own boosting and the features that its decisions had."""
    out, table = set[str](), concat([history, sent])
    decided = [ledger.decisions.get(transaction) for transaction in sent.transaction_id.tolist()]
    for version in sorted(version for version in ledger.versions if version):
        model = load_serving_model(models_dir / str(version))
        events = table.events(model.schema, model.risk)
        past = prepare(events, model.schema, model.codec.length)
        see_merchants(past, events, table.label, table.time_ms + LABEL_DELAY_MS, MerchantHistory())
        trees = read_trees(artifact.read_text(models_dir / str(version), artifact.BOOSTED[BOOSTING]), WIDTH)
        mine = np.array([i for i, d in enumerate(decided) if d and d.model.version == version])
        logit = sum_of(trees, past.features[len(history) + mine], np.zeros(WIDTH))
        count = sum(d.alert for d in decided if d and d.model.version == version)
        out |= set(sent.transaction_id[mine[np.argsort(-logit)[:count]]].tolist())
    return out


class _Stream:
    """One stream of transactions, in the middle of which a refresh changes the model; labels come as they fall due."""

    def __init__(self, demo: Demo, system: System, history: TransactionTable, live: TransactionTable) -> None:
        self._demo, self._system, self._live = demo, system, live
        late = np.flatnonzero(history.time_ms + LABEL_DELAY_MS > history.time_ms[-1])
        self._labelled = concat([history.take(late), live])
        self._labels_sent = 0
        self.sent = 0  # transactions
        self.ledger = Ledger()
        self.malformed: Counter[str] = Counter()  # bad records sent, by the code of their dead letters
        self.refreshed: dict[str, Any] | None = None  # what the refresh reported; None before and while it runs
        self._refreshing = False

    async def run(self) -> None:
        """Stream the transactions, and wait for the decision of each."""
        truth = known_labels(self._live)
        async with LedgerReader(self._system.kafka) as reader:
            self.ledger = reader.ledger
            self.malformed = await _inject_malformed(self._system.kafka)
            deadline = time.time() + _PATIENCE_S
            while self.ledger.dead.total() < self.malformed.total() and time.time() < deadline:
                # the dead letters show that the worker runs; the stream, whose latencies count, starts after them
                await reader.poll()
            sending, deadline, finished = asyncio.create_task(self._send_all()), float("inf"), False
            labels = asyncio.create_task(self._send_labels())
            with self._demo.progress.screen():
                while not finished and time.time() < deadline:
                    await reader.poll()
                    if sending.done() and deadline == float("inf"):
                        deadline = time.time() + _PATIENCE_S
                    finished = sending.done() and len(self.ledger.decisions) >= self.sent
                    self._demo.progress.show(self.ledger, self.sent, truth, self._refreshing, finished)
            await sending  # raises what went wrong
            if labels.done():
                labels.result()  # which it never gives
            labels.cancel()
            while await reader.poll(0.5):
                pass

    async def _send_all(self) -> None:
        """Send at the full rate, slower while the refresh trains, and at the full rate again."""
        wanted, rate = self._demo.transactions, self._demo.rate
        await self._send(int(wanted * _REFRESH_AT), rate)
        refresh = asyncio.create_task(self._refresh())

        def switched() -> bool:
            return self.ledger.versions[2] > 0 or refresh.done()

        await self._send(len(self._live) - _MOVED, rate / _SLOWER, switched)
        if not switched():
            await refresh  # the last transactions wait for the model that is to decide them
        await self._send(max(wanted, self.sent + _MOVED), rate)
        await refresh

    async def _send_labels(self) -> None:
        """Send each label once a transaction of its time has been sent."""
        while True:
            now_ms = int(self._live.time_ms[max(0, self.sent - 1)])
            due = int(np.searchsorted(self._labelled.time_ms, now_ms - LABEL_DELAY_MS, "right"))
            if due > self._labels_sent:
                rows = self._labelled.take(slice(self._labels_sent, due))
                await produce_labels(self._system.kafka, rows, LABEL_DELAY_MS)
                self._labels_sent = due
            await asyncio.sleep(1)

    async def _send(self, until: int, rate: float, stop: Callable[[], bool] | None = None) -> None:
        """Send the unsent ones of the first `until` transactions at `rate` a second; end early once `stop()` holds."""
        begin = self.sent

        def progress(count: int) -> None:
            self.sent = begin + count

        await produce(self._system.kafka, self._live.take(slice(begin, until)).rows(), rate, progress, stop)

    async def _refresh(self) -> None:
        """Run `panther refresh --once` as an operator would, and keep what it reports."""
        self._refreshing, started, log = True, time.time(), self._demo.folder / "logs" / "refresh.log"
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.prefix) / "bin" / "panther"), "refresh", "--once", "--anyway", "--json"),
            *("--repository", str(self._system.stack.model_repository)),
            *("--label-delay-days", str(LABEL_DELAY_MS / DAY_MS)),
            env=self._system.environment,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
        )
        out, _ = await process.communicate()
        self._refreshing = False
        self._demo.progress.seconds["refresh"] = round(time.time() - started, 1)
        failed = {"error": f"exit code {process.returncode}, see {log}"}
        self.refreshed = failed if process.returncode else dict(json.loads(out))


async def _inject_malformed(kafka: KafkaSettings) -> Counter[str]:
    """Send records that must become dead letters; returns how many of each reason code."""
    records = malformed(_MALFORMED, seed=1)
    async with make_producer(kafka) as producer:
        for kind, payload in records:
            await producer.send(TRANSACTIONS, payload, key=f"malformed-{kind}".encode())
        await producer.flush()
    return Counter(KINDS[kind][0] for kind, _ in records)
