"""`panther bench worker`: each contender in turn over the same backlog."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker.stage import Stage, stage
from infra.local.process import ManagedProcess
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.topics import SCORES, TRANSACTIONS, changelog_of
from panther_core.kafka.reading import make_reader
from stream.tools.produce import produce

_START_S = 60.0
#: of a contender's output: before, caches fill; after, the backlog's last partitions run dry
_COUNTED = (0.15, 0.95)
_QUIX = ("--with", "quixstreams==3.28.1", "--with", "msgspec")  # its own environment: it asks for an older pydantic


@dataclass(frozen=True)
class Load:
    """Size of a run: `seconds` is how long each contender is watched at most."""

    transactions: int = 200_000
    users: int = 5000
    partitions: int = 8
    length: int = 64
    seconds: float = 30.0
    rounds: int = 1


def run_worker(folder: Path, load: Load, only: str | None = None) -> dict[str, Any]:
    """Rates of all contenders (medians over the rounds), and as ratios to ours."""
    with stage(folder, load.length, load.partitions) as ready:
        days = load.transactions // load.users + 2
        config = GeneratorConfig(users=load.users, days=days, mean_transactions_per_day=1.2, newcomer_share=0, seed=3)
        table = generate(config).take(slice(0, load.transactions))
        asyncio.run(produce(ready.kafka, table.rows(), rate=0))
        say(f"  {len(table)} transactions of {load.users} users wait; states of {ready.state_bytes} bytes")
        rates: dict[str, list[float]] = {}
        for turn in range(load.rounds):
            for name, start in _CONTENDERS.items():
                if only in (None, name):
                    rates.setdefault(name, []).append(_watch(ready, name, start, turn, load))
                    say(f"  {name}: {rates[name][-1]:.0f}/s")
    medians = {name: round(float(np.median(values)), 1) for name, values in rates.items()}
    ours = medians.get("tps")
    ratios = {name.replace("tps", "ratio"): round(ours / m, 2) for name, m in medians.items() if ours and name != "tps"}
    return medians | ratios | {"state_bytes": ready.state_bytes, "transactions": len(table), "rounds": load.rounds}


def _watch(
    ready: Stage, name: str, start: Callable[[Stage, int], tuple[ManagedProcess, str]], turn: int, load: Load
) -> float:
    """Start a contender and count what it writes, until the backlog ends or its time is up; records a second."""

    async def go() -> float:
        async with make_reader(ready.kafka) as consumer:
            before = await ready.written(consumer, topic) if topic == SCORES else 0
            seen: list[tuple[float, int]] = []
            began, first = time.monotonic(), None
            while not seen or (seen[-1][1] < load.transactions and seen[-1][0] < (first or began) + load.seconds):
                await asyncio.sleep(0.2)
                now, count = time.monotonic(), await ready.written(consumer, topic) - before
                first = first or (now if count else None)
                if first:
                    seen.append((now, count))
                elif now > began + _START_S or not process.alive():
                    raise PantherError(f"{name} wrote nothing within {_START_S:.0f} s; its log: {process.log_path}")
            return _rate(seen)

    process, topic = start(ready, turn)
    try:
        return asyncio.run(go())
    finally:
        process.stop()


def _rate(seen: list[tuple[float, int]]) -> float:
    """Records a second over the counted part of (time, records so far)."""
    at, count = np.array(seen).T
    low, high = (share * count[-1] for share in _COUNTED)
    counted = np.flatnonzero((count >= low) & (count <= high))
    if len(counted) < 2:
        return float((count[-1] - count[0]) / max(1e-3, at[-1] - at[0]))
    a, b = counted[0], counted[-1]
    return float((count[b] - count[a]) / (at[b] - at[a]))


def _ours(ready: Stage, turn: int) -> tuple[ManagedProcess, str]:
    from infra.topics import create_topics

    app_id = f"{ready.settings.app_id}-{turn}"
    settings = ready.settings.model_copy(update={"app_id": app_id, "data_dir": str(ready.folder / app_id)})
    asyncio.run(create_topics(ready.kafka, settings))
    return ready.start("null_worker", settings=settings), SCORES


def _stock(ready: Stage, turn: int) -> tuple[ManagedProcess, str]:
    app_id, out = f"stock-{turn}", f"stock.out.{turn}"
    asyncio.run(ready.make_topic(out))
    asyncio.run(ready.make_topic(changelog_of(app_id), compact=True))
    argv = (app_id, str(ready.folder / app_id), out, str(ready.state_bytes), str(ready.settings.partitions))
    return ready.start("stock_faust", *argv), out


def _bare(ready: Stage, turn: int) -> tuple[ManagedProcess, str]:
    out = f"bare.out.{turn}"
    asyncio.run(ready.make_topic(out))
    return ready.start("bare_loop", f"bare-{turn}", out), out


def _quix(ready: Stage, turn: int) -> tuple[ManagedProcess, str]:
    group, out = f"quix-{turn}", f"quix.out.{turn}"
    asyncio.run(ready.make_topic(out))
    script = str(Path(__file__).with_name("quix.py"))
    uv = [
        str(Path(sys.prefix) / "bin" / "uv"),
        "run",
        "--quiet",
        "--isolated",
        "--no-project",
        *_QUIX,
        "python",
        script,
    ]
    argv = [ready.kafka.bootstrap_servers, group, str(ready.folder / group), TRANSACTIONS, out, str(ready.state_bytes)]
    return ManagedProcess.start("quix", [*uv, *argv], ready.folder / "logs" / "quix.log"), out


_CONTENDERS: dict[str, Callable[[Stage, int], tuple[ManagedProcess, str]]] = {
    "tps": _ours,
    "stock_faust_tps": _stock,
    "bare_loop_tps": _bare,
    "quix_tps": _quix,
}
