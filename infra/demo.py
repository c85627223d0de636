"""The demo: the whole system on real parts, from nothing to explained alerts, and a summary that checks itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.live import Live
from rich.table import Table

from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.training import LABEL_DELAY_MS, train_once
from panther_core.base.console import console, say
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings
from panther_core.base.times import DAY_MS
from panther_core.data.decision import Alert
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.generator.malformed import KINDS, malformed
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.producer import make_producer
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce, produce_labels

GENERATOR = GeneratorConfig(users=5000, days=90, mean_transactions_per_day=1.3, seed=7)
_REFRESH_AT = 0.1  # share of the stream after which the refresh starts: it takes a while beside the stream
_RESERVE_S = 300  # of transactions are kept to stream on, until the refreshed model has taken over,
_SLOWER = 4  # and so much slower: it lasts for twenty minutes, should the refresh have little of the machine
_MOVED = 2000  # decisions of the refreshed model that end the stream
_MALFORMED = 60
_PATIENCE_S = 90.0  # for the worker to start, and after the last transaction for the last decision


@dataclass
class Demo:
    """What happened, for the summary."""

    folder: Path
    transactions: int
    rate: float
    seconds: dict[str, float] = field(default_factory=dict)
    refresh: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce and time one stage."""
        say(f"[bold cyan]»[/] {name} ...")
        started = time.time()
        yield
        self.seconds[name] = round(time.time() - started, 1)
        say(f"  done in {self.seconds[name]} s")


def run_demo(folder: Path, transactions: int, rate: float) -> dict[str, Any]:
    """Run it all below `folder`; returns the summary, whose `ok` says whether everything held."""
    demo = Demo(folder, transactions, rate)
    with demo.stage("generate"):
        table = generate(GENERATOR)
        reserve = transactions + int(rate * _RESERVE_S)
        if len(table) <= 2 * reserve:
            raise BadInput(
                f"expected transactions + {_RESERVE_S} s of the rate to be at most {len(table) // 2}, got {reserve}: "
                "ask for fewer --transactions or a lower --rate"
            )
        history, live = table.take(slice(0, len(table) - reserve)), table.take(slice(len(table) - reserve, None))
    with demo.stage("train"):
        train_once(folder, history, key=f"{GENERATOR} {reserve}")
    shutil.rmtree(folder / "stack", ignore_errors=True)
    shutil.rmtree(folder / "worker", ignore_errors=True)
    with ExitStack() as running:
        with demo.stage("start"):
            system = running.enter_context(System(folder, LocalStack(folder / "stack"), fresh_app_id("panther-demo")))
            model = system.deploy(1)
            asyncio.run(_lay_log(system.kafka, history))
            users = system.seed(history, model)
            say(f"  {users} users have a history of {len(history)} transactions")
            system.start_worker()
        with demo.stage("stream"):
            ledger, injected, sent = asyncio.run(_stream(demo, system, live))
            memory = system.memory_mb()
    return _summary(demo, live.take(slice(0, sent)), ledger, injected, memory)


async def _stream(demo: Demo, system: System, live: TransactionTable) -> tuple[Ledger, Counter[str], int]:
    """Stream until enough is sent and the refreshed model has decided some of it; all decisions are waited for.

    Returns the books, the bad records sent by code, and how many transactions were sent.
    """
    truth = dict(zip(live.transaction_id.tolist(), live.label.tolist(), strict=True))
    sent = 0
    refresh: asyncio.Task[dict[str, Any]] | None = None

    def progress(count: int) -> None:
        nonlocal sent
        sent = count

    async with LedgerReader(system.kafka) as reader:
        ledger = reader.ledger
        injected = await _inject_malformed(system.kafka)
        deadline = time.time() + _PATIENCE_S
        while ledger.dead.total() < injected.total() and time.time() < deadline:
            await reader.poll()  # the dead letters show that the worker is at work: from here on latency counts

        def enough() -> bool:
            return ledger.versions[2] >= _MOVED or (
                refresh is not None and refresh.done() and "error" in refresh.result()
            )

        sender = asyncio.create_task(_send(system.kafka, live, demo, progress, enough))
        shown, deadline = 0.0, float("inf")
        with Live(console=console, auto_refresh=False) as screen:
            while True:
                await reader.poll()
                if refresh is None and sent >= demo.transactions * _REFRESH_AT:
                    await produce_labels(system.kafka, live.take(slice(0, sent)), LABEL_DELAY_MS)
                    refresh = asyncio.create_task(_refresh(demo, system))
                if sender.done() and deadline == float("inf"):
                    sent = sender.result()
                    deadline = time.time() + _PATIENCE_S
                finished = sender.done() and len(ledger.decisions) >= sent and refresh is not None and refresh.done()
                if time.time() - shown > (1 if console.is_terminal else 15) or finished:
                    shown = time.time()
                    table = _status(ledger, sent, truth, refresh)
                    if console.is_terminal:
                        screen.update(table, refresh=True)
                    else:
                        console.print(table)
                if finished or time.time() > deadline:
                    break
        demo.refresh = await refresh if refresh else {}
        while await reader.poll(0.5):
            pass
        return ledger, injected, sent


async def _send(
    kafka: KafkaSettings,
    live: TransactionTable,
    demo: Demo,
    progress: Callable[[int], None],
    enough: Callable[[], bool],
) -> int:
    """Send what was asked for at the rate, then more, slower, until it is enough; returns how many."""
    first, more = live.take(slice(0, demo.transactions)), live.take(slice(demo.transactions, None))
    count = (await produce(kafka, first.rows(), demo.rate, progress)).count
    rest = await produce(kafka, more.rows(), demo.rate / _SLOWER, lambda sent: progress(count + sent), enough)
    return count + rest.count


async def _lay_log(kafka: KafkaSettings, history: TransactionTable) -> None:
    """Put the past onto the topics: what a refresh reads back."""
    await produce(kafka, history.rows(), rate=0)
    await produce_labels(kafka, history, LABEL_DELAY_MS)


async def _inject_malformed(kafka: KafkaSettings) -> Counter[str]:
    """Send records that must become dead letters; returns how many of each reason code."""
    producer = make_producer(kafka)
    await producer.start()
    try:
        records = malformed(_MALFORMED, seed=1)
        for kind, payload in records:
            await producer.send(TRANSACTIONS, payload, key=f"malformed-{kind}".encode())
        await producer.flush()
        return Counter(KINDS[kind][0] for kind, _ in records)
    finally:
        await producer.stop()


async def _refresh(demo: Demo, system: System) -> dict[str, Any]:
    """`panther refresh --once`, as an operator would run it, at low priority beside the stream."""
    started = time.time()
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", str(Path(sys.prefix) / "bin" / "panther"), "refresh", "--once", "--json"),
        *(
            "--repository",
            str(system.stack.model_repository),
            "--label-delay-days",
            str(LABEL_DELAY_MS / DAY_MS),
        ),
        env=system.environment,
        stdout=subprocess.PIPE,
        stderr=(demo.folder / "logs" / "refresh.log").open("wb"),
    )
    out, _ = await process.communicate()
    demo.seconds["refresh"] = round(time.time() - started, 1)
    if process.returncode:
        return {"error": f"exit code {process.returncode}, see {demo.folder / 'logs' / 'refresh.log'}"}
    return dict(json.loads(out))


def _quality(ledger: Ledger, truth: dict[str, int]) -> tuple[float, float, int]:
    """Recall and precision of the alerts against the known labels, and the number of alerts."""
    alerted = {t for t, d in ledger.decisions.items() if d.alert}
    frauds = {t for t in ledger.decisions if truth.get(t) == 1}
    hits = len(alerted & frauds)
    return hits / max(1, len(frauds)), hits / max(1, len(alerted)), len(alerted)


def _status(ledger: Ledger, sent: int, truth: dict[str, int], refresh: asyncio.Task[dict[str, Any]] | None) -> Table:
    latency = ledger.latency_ms()
    recall, precision, alerts = _quality(ledger, truth)
    table = Table("sent", "decided", "p50 ms", "p99 ms", "alerts", "recall", "precision", "degraded", "dead", "models")
    versions = " ".join(f"v{v}:{n}" for v, n in sorted(ledger.versions.items()))
    table.add_row(
        str(sent),
        str(len(ledger.decisions)),
        f"{latency['p50']:.0f}",
        f"{latency['p99']:.0f}",
        str(alerts),
        f"{recall:.2f}",
        f"{precision:.2f}",
        str(ledger.degraded.total()),
        str(ledger.dead.total()),
        versions + (" (refreshing)" if refresh and not refresh.done() else ""),
    )
    return table


def _show_alert(alert: Alert) -> None:
    say(f"  [bold red]{alert.risk_level}[/] score {alert.score:.3f}  merchant {alert.merchant_id}  {alert.alert_id}")
    for reason in alert.reasons:
        say(f"      {reason.code:20} {reason.contribution:+.2f}  {reason.description}")
    for usual in alert.expected[:1]:
        top = f"{usual.amount_to:.2f}" if usual.amount_to is not None else "more"
        say(f"      expected rather: {usual.category} by {usual.channel}, {usual.amount_from:.2f} to {top}")


def _summary(
    demo: Demo, live: TransactionTable, ledger: Ledger, injected: Counter[str], memory_mb: float
) -> dict[str, Any]:
    truth = dict(zip(live.transaction_id.tolist(), live.label.tolist(), strict=True))
    for alert in sorted(ledger.alerts.values(), key=lambda a: -a.score)[:3]:
        _show_alert(alert)
    recall, precision, alerts = _quality(ledger, truth)
    latency = ledger.latency_ms()
    missing = sum(t not in ledger.decisions for t in truth)
    unknown = sum(t not in truth for t in ledger.decisions)
    versions = sorted(v for v in ledger.versions if v)
    checks = {
        "every transaction has a decision": missing == 0 and unknown == 0,
        "no transaction has two different decisions": not ledger.contradicted,
        "dead letters are exactly the malformed records": ledger.dead == injected,
        "alerts are exactly the decisions above the threshold": alerts == len(ledger.alerts),
        "the refreshed model took over in mid-stream": versions == [1, 2],
    }
    for text, held in checks.items():
        say(f"  {'[green]ok[/]' if held else '[bold red]FAILED[/]'}  {text}")
    span_s = (max(ledger.appended_ms.values()) - min(ledger.appended_ms.values())) / 1000 if ledger.appended_ms else 0
    return {
        "ok": all(checks.values()),
        "checks": checks,
        "transactions": len(truth),
        "decisions": len(ledger.decisions),
        "repeated": ledger.repeated,
        "missing": missing,
        "contradicted": len(ledger.contradicted),
        "alerts": alerts,
        "dead_letters": dict(ledger.dead),
        "degraded": dict(ledger.degraded),
        "recall": round(recall, 4),
        "precision": round(precision, 4),
        "frauds": int(np.sum(live.label == 1)),
        "tps": round(len(ledger.decisions) / max(span_s, 1e-9), 1),
        "decision_ms": latency,
        "versions": {str(v): n for v, n in sorted(ledger.versions.items())},
        "refresh": demo.refresh,
        "worker_memory_mb": memory_mb,
        "seconds": demo.seconds,
        "cores": os.cpu_count(),
    }
