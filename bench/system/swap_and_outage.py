"""`panther bench swap` and `panther bench outage`: latency of decisions before, while and after the model side changes.

The load is steady and open loop, on the system of `panther bench e2e`; a latency runs from when a transaction was due
to the append of its decision. Swap, by the commands of an operator: a second version is loaded and promoted, and
retirement waits until every user has moved; then it is rolled back; then it is promoted again, the first one is
unloaded, and it is rolled back to that one, which is loaded again for it. Outage: the scoring process is killed, then
the server hangs until its queues fill, then the server is killed and started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from bench.load import Disturbance, Load, label_delay_ms
from bench.system.e2e import running
from bench.system.offered import Offered, offer
from infra.local.system import System
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.data.generator import PROFILE
from panther_core.data.table import TransactionTable
from stream.tools.ledger import Ledger, LedgerReader
from trainer.fit.train_config import preset
from trainer.training import train

_BEFORE_S, _PAUSE_S, _AFTER_S = 60.0, 15.0, 15.0
_SETTLE_S = 30.0  # the start, not counted: the encoder sees every user for the first time
_HANG_S = 5.0
_LONGEST_S = 420.0  # most seconds of load
_MARGIN_S = 2.0  # seconds after the end of a disturbance that still count as its phase


def run_swap(folder: Path, load: Load, rate: float) -> dict[str, Any]:
    """Latency before, during and after a swap of the version, with counts of errors and of mixed decisions."""
    with running(folder, load, int(rate * _LONGEST_S)) as (system, live):
        train_second_version(system, live, load)
        ledger, done, disturbances = asyncio.run(_under_load(system, live, rate, _swap))
        found = _report(ledger, done, disturbances, [1, 2, 1, 2, 1])
        at = {disturbance.name: disturbance.begin_s for disturbance in disturbances}
        swap = _phase(ledger, done, at["load"], at["rollback, loaded"])["decision_ms"]
        p99 = {name: phase["decision_ms"]["p99"] for name, phase in found["phases"].items()}
        return found | {
            "users": load.users,
            "p99_before_ms": p99["before"],
            "p99_during_ms": swap["p99"],
            "p99_after_ms": p99["after"],
            "p99_rollback_ms": p99["rollback, loaded"],
            "rollback_s": found["phases"]["rollback, loaded"]["seconds"],
            "rollback_unloaded_s": found["phases"]["rollback, unloaded"]["seconds"],
        }


def run_outage(folder: Path, load: Load, rate: float) -> dict[str, Any]:
    """Decisions while Triton is broken in three ways: from when to when they were degraded, and what was lost."""
    with running(folder, load, int(rate * _LONGEST_S)) as (system, live):
        ledger, done, disturbances = asyncio.run(_under_load(system, live, rate, _outage))
        return _report(ledger, done, disturbances, [1])


def train_second_version(system: System, live: TransactionTable, load: Load) -> None:
    """Train version 2 from version 1 on the transactions to be streamed, unless an earlier run has trained it."""
    models = Path(system.settings.models_dir)
    if (models / "2" / "manifest.json").exists():
        return
    seen = live.take(slice(0, 100_000))
    config = msgspec.structs.replace(preset("refresh"), validation_from=0.7, test_from=0.85)
    delay_ms = label_delay_ms(seen)
    train(
        seen,
        models / "2",
        config=config,
        version=2,
        label_delay_ms=delay_ms,
        continue_from=models / "1",
        profile=PROFILE,
    )


async def _under_load(
    system: System, live: TransactionTable, rate: float, change: Callable[[System, list[Disturbance]], Any]
) -> tuple[Ledger, Offered, list[Disturbance]]:
    disturbances: list[Disturbance] = []

    async def meanwhile() -> None:
        await asyncio.sleep(_BEFORE_S)
        await change(system, disturbances)
        await asyncio.sleep(_AFTER_S)

    async with LedgerReader(system.kafka) as reader:
        say(f"  steady load: {rate:.0f} transactions/s")
        done = await offer(system, reader, live.take(slice(0, int(rate * _LONGEST_S))), rate, meanwhile())
        return reader.ledger, done, disturbances


async def _swap(system: System, disturbances: list[Disturbance]) -> None:
    """The steps that the top of the module names, each with a pause behind it that still counts as its phase."""
    folder = str(Path(system.settings.models_dir) / "2")
    repository = ("--repository", str(system.stack.model_repository))
    for name, argv in (
        ("load", ("load", folder, *repository)),
        ("promote", ("promote", folder, "--anyway")),
        ("retire", ("retire", *repository)),
        ("rollback, loaded", ("rollback", *repository)),
        ("promote again", ("promote", folder, "--anyway")),
        ("retire all", ("retire", "--all", *repository)),
        ("rollback, unloaded", ("rollback", *repository)),
    ):
        began = time.time()
        seconds = await _panther(system, "models", *argv)
        disturbances.append(Disturbance(name, began, time.time()))
        say(f"  {name}: {seconds} s")
        await asyncio.sleep(_PAUSE_S)


async def _panther(system: System, *argv: str) -> float:
    """Seconds that a command takes. Raises PantherError with what it said where it fails."""
    began = time.time()
    command = [sys.executable, "-m", "cli", *argv, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise PantherError(f"panther {' '.join(argv[:2])} ended with {process.returncode}: {said.decode()}")
    return round(time.time() - began, 2)


async def _outage(system: System, disturbances: list[Disturbance]) -> None:
    server = psutil.Process(system.triton_pid())
    for name, act in (("score process killed", _kill_stub), ("server hangs", _hang), ("server killed", _kill_server)):
        began = time.time()
        say(f"  {name}")
        await act(system, server)
        disturbances.append(Disturbance(name, began, time.time()))
        await asyncio.sleep(_PAUSE_S)


async def _kill_stub(system: System, server: psutil.Process) -> None:
    for child in server.children(recursive=True):
        if any("panther_score" in part for part in child.cmdline()):
            child.send_signal(signal.SIGKILL)


async def _hang(system: System, server: psutil.Process) -> None:
    """Stop all processes of the server, so that requests wait until their deadlines, as behind a full queue."""
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    await asyncio.sleep(_HANG_S)
    for process in family:
        process.resume()


async def _kill_server(system: System, server: psutil.Process) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    await asyncio.sleep(_HANG_S)
    await asyncio.to_thread(system.stack.up, False)


def _report(ledger: Ledger, done: Offered, disturbances: list[Disturbance], live: Sequence[int]) -> dict[str, Any]:
    begin_s, end_s = min(done.due_ms.values()) / 1000 + _SETTLE_S, max(done.due_ms.values()) / 1000
    phases: dict[str, Any] = {"before": _phase(ledger, done, begin_s, disturbances[0].begin_s)}
    for disturbance, following in zip(disturbances, [*[m.begin_s for m in disturbances[1:]], None], strict=True):
        settled_s = disturbance.end_s + _MARGIN_S if following is None else following
        phases[disturbance.name] = (
            _phase(ledger, done, disturbance.begin_s, settled_s)
            | {"seconds": round(disturbance.end_s - disturbance.begin_s, 2)}
            | _degraded(ledger, disturbance, following)
        )
    phases["after"] = _phase(ledger, done, disturbances[-1].end_s + _MARGIN_S, end_s)
    return {
        "phases": phases,
        "transactions": len(done.due_ms),
        "missing": sum(t not in ledger.decisions for t in done.due_ms),
        "contradicted": len(ledger.contradicted),
        "degraded": dict(ledger.degraded),
        "versions": {str(v): n for v, n in sorted(ledger.versions.items())},
        "mixed": _mixed(ledger, done, live),
    }


def _phase(ledger: Ledger, done: Offered, begin_s: float, end_s: float) -> dict[str, Any]:
    due = done.between(begin_s * 1000, end_s * 1000)
    worst = max((ledger.appended_ms[t] - d for t, d in due.items() if t in ledger.appended_ms), default=0.0)
    return {"transactions": len(due), "decision_ms": ledger.latency_ms(due) | {"max": round(worst, 1)}}


def _degraded(ledger: Ledger, disturbance: Disturbance, following_s: float | None) -> dict[str, Any]:
    """How many decisions were made without the model, and when, in seconds after the disturbance began."""
    last_s = following_s or np.inf
    times = [
        ledger.appended_ms[t] / 1000 - disturbance.begin_s
        for t, decision in ledger.decisions.items()
        if decision.degraded and disturbance.begin_s <= ledger.appended_ms[t] / 1000 < last_s
    ]
    if not times:
        return {"degraded": 0}
    return {"degraded": len(times), "first_degraded_s": round(min(times), 2), "last_degraded_s": round(max(times), 2)}


def _mixed(ledger: Ledger, done: Offered, live: Sequence[int]) -> int:
    """How many users got decisions of versions in another order than that in which they were `live`."""
    at: dict[str, int] = {}
    mixed = set()
    for t in done.due_ms:  # in the order they were sent
        decision = ledger.decisions.get(t)
        if decision is None or not decision.model.version:
            continue
        user, version, since = decision.user_id, decision.model.version, at.get(decision.user_id, 0)
        if version in live[since:]:
            at[user] = live.index(version, since)
        else:
            mixed.add(user)
    return len(mixed)
