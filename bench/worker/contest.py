"""`panther bench worker`: transactions a second of the project's worker and of each other contender, in turn."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker.stage import BenchStage, running_stage
from infra.local.process import ManagedProcess
from panther_core.base.console import say
from panther_core.base.errors import PantherError
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.topics import SCORES, TRANSACTIONS, changelog_of
from panther_core.kafka.reading import make_reader
from stream.tools.produce import produce

_START_S = 60.0
#: Share of a contender's output that counts: before it caches fill, after it some partitions have no backlog left.
_COUNTED = (0.15, 0.95)
_QUIX = ("--with", "quixstreams==3.28.1", "--with", "msgspec")  # an environment of its own: it needs an older pydantic


@dataclass(frozen=True)
class ContestSize:
    """Size of a run: the backlog, states with `length` context events, and `seconds` of watching each contender."""

    transactions: int = 200_000
    users: int = 5000
    partitions: int = 8
    length: int = 64
    seconds: float = 30.0
    rounds: int = 1


def run_worker(folder: Path, size: ContestSize, only: str | None = None) -> dict[str, Any]:
    """Rate of each contender (median over the rounds), and how many times as fast this project's worker is."""
    with running_stage(folder, size.length, size.partitions) as stage:
        days = size.transactions // size.users + 2
        config = GeneratorConfig(users=size.users, days=days, mean_transactions_per_day=1.2, newcomer_share=0, seed=3)
        table = generate(config).take(slice(0, size.transactions))
        asyncio.run(produce(stage.kafka, table.rows(), rate=0))
        say(f"  {len(table)} transactions of {size.users} users wait; states of {stage.state_bytes} bytes")
        rates: dict[str, list[float]] = {}
        for turn in range(size.rounds):
            for name, start in _CONTENDERS.items():
                if only in (None, name):
                    rates.setdefault(name, []).append(_watch(stage, name, start, turn, size))
                    say(f"  {name}: {rates[name][-1]:.0f}/s")
    medians = {name: round(float(np.median(values)), 1) for name, values in rates.items()}
    ours = medians.get("tps")
    ratios = {name.replace("tps", "ratio"): round(ours / m, 2) for name, m in medians.items() if ours and name != "tps"}
    return medians | ratios | {"state_bytes": stage.state_bytes, "transactions": len(table), "rounds": size.rounds}


def _watch(
    stage: BenchStage,
    name: str,
    start: Callable[[BenchStage, int], tuple[ManagedProcess, str]],
    turn: int,
    size: ContestSize,
) -> float:
    """Start a contender and count its records until the backlog or its time ends; returns records a second."""

    async def go() -> float:
        async with make_reader(stage.kafka) as consumer:
            before = await stage.written(consumer, topic) if topic == SCORES else 0
            seen: list[tuple[float, int]] = []
            began, first = time.monotonic(), None
            while not seen or (seen[-1][1] < size.transactions and seen[-1][0] < (first or began) + size.seconds):
                await asyncio.sleep(0.2)
                now, count = time.monotonic(), await stage.written(consumer, topic) - before
                first = first or (now if count else None)
                if first:
                    seen.append((now, count))
                elif now > began + _START_S or not process.alive():
                    raise PantherError(f"{name} wrote nothing within {_START_S:.0f} s; its log: {process.log_path}")
            return _rate(seen)

    process, topic = start(stage, turn)
    try:
        return asyncio.run(go())
    finally:
        process.stop()


def _rate(seen: list[tuple[float, int]]) -> float:
    """Records a second over the counted part of the samples (time, records so far)."""
    at, count = np.array(seen).T
    low, high = (share * count[-1] for share in _COUNTED)
    counted = np.flatnonzero((count >= low) & (count <= high))
    if len(counted) < 2:
        return float((count[-1] - count[0]) / max(1e-3, at[-1] - at[0]))
    a, b = counted[0], counted[-1]
    return float((count[b] - count[a]) / (at[b] - at[a]))


def _ours(stage: BenchStage, turn: int) -> tuple[ManagedProcess, str]:
    from infra.create_topics import create_topics

    app_id = f"{stage.settings.app_id}-{turn}"
    settings = stage.settings.model_copy(update={"app_id": app_id, "data_dir": str(stage.folder / app_id)})
    asyncio.run(create_topics(stage.kafka, settings))
    return stage.start("null_worker", settings=settings), SCORES


def _stock(stage: BenchStage, turn: int) -> tuple[ManagedProcess, str]:
    app_id, out = f"stock-{turn}", f"stock.out.{turn}"
    asyncio.run(stage.make_topic(out))
    asyncio.run(stage.make_topic(changelog_of(app_id), compact=True))
    argv = (app_id, str(stage.folder / app_id), out, str(stage.state_bytes), str(stage.settings.partitions))
    return stage.start("stock_faust", *argv), out


def _bare(stage: BenchStage, turn: int) -> tuple[ManagedProcess, str]:
    out = f"bare.out.{turn}"
    asyncio.run(stage.make_topic(out))
    return stage.start("bare_loop", f"bare-{turn}", out), out


def _quix(stage: BenchStage, turn: int) -> tuple[ManagedProcess, str]:
    group, out = f"quix-{turn}", f"quix.out.{turn}"
    asyncio.run(stage.make_topic(out))
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
    argv = [stage.kafka.bootstrap_servers, group, str(stage.folder / group), TRANSACTIONS, out, str(stage.state_bytes)]
    return ManagedProcess.start("quix", [*uv, *argv], stage.folder / "logs" / "quix.log"), out


_CONTENDERS: dict[str, Callable[[BenchStage, int], tuple[ManagedProcess, str]]] = {
    "tps": _ours,
    "stock_faust_tps": _stock,
    "bare_loop_tps": _bare,
    "quix_tps": _quix,
}
