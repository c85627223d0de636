"""`panther chaos`: steady load on a real system and random troubles at random times, then a check of everything.

Gives a verdict (`ok`, and what was lost, contradicted or wrong, see check.py), and how soon after each trouble fresh
transactions were decided again.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos.check import check, is_live
from bench.chaos.evidence import ChaosEvidence, read_evidence
from bench.chaos.stage import ChaosStage, running_stage
from bench.chaos.traffic import send, with_labels
from bench.chaos.troubles import TROUBLES, schedule
from bench.load import Disturbance, Load, label_delay_ms, long_table
from bench.waits import Stuck, end, within
from infra.local.training import train_once
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model

_CLOSING_S, _READING_S = 120.0, 300.0
_LIMIT_S, _TROUBLE_S = 600.0, 60.0  # of the load in all, beside its own length: at most so much, and for each trouble
_BEFORE_S, _AFTER_S = 8.0, 5.0  # load without trouble: while workers start, and after the last trouble


@dataclass(frozen=True)
class ChaosPlan:
    """One experiment: what runs, under what load, and how many troubles of which kinds hit it."""

    kills: int = 30
    seed: int = 0
    rate: float = 150.0
    seconds: float = 300.0
    workers: int = 2
    replicas: int = 1
    kinds: tuple[str, ...] = tuple(TROUBLES)
    users: int = 150
    partitions: int = 8


def run_chaos(folder: Path, plan: ChaosPlan) -> dict[str, Any]:
    """Run the experiment; `ok` only if nothing is wrong in the end. Raises BadInput for an unknown kind of trouble."""
    if unknown := set(plan.kinds) - set(TROUBLES):
        raise BadInput(f"expected troubles out of {', '.join(TROUBLES)}, got {', '.join(sorted(unknown))}")
    table = long_table(Load(plan.users, history=0, seed=plan.seed), int(1.5 * plan.rate * plan.seconds) + 5000)
    key = f"chaos {plan.users} {plan.seed} {plan.rate} {plan.seconds}"
    train_once(folder, table, key, label_delay_ms(table), size="tiny")
    began_s = time.time()
    evidence, disturbances, seen = asyncio.run(_run(folder.resolve(), plan, table))
    version = folder / "models" / "1"
    verdict = check(evidence, load_serving_model(version), PantherModel.load(version))
    return {
        **verdict,
        "ok": verdict["ok"] and not seen["stuck"],
        "troubles": _troubles(evidence, disturbances, began_s),
        **seen,
        "seed": plan.seed,
        "workers": plan.workers,
        "replicas": plan.replicas,
        "seconds": round(time.time() - began_s),
    }


async def _run(
    folder: Path, plan: ChaosPlan, table: TransactionTable
) -> tuple[ChaosEvidence, list[Disturbance], dict[str, Any]]:
    async with running_stage(folder, plan.workers, plan.replicas, plan.partitions) as stage:
        system = stage.system
        watchers = [asyncio.create_task(stage.supervise()), asyncio.create_task(stage.watch_owners())]
        load = asyncio.create_task(_load(stage, plan, table))
        limit_s = plan.seconds + _LIMIT_S + plan.kills * _TROUBLE_S
        try:
            await asyncio.wait([load, *watchers], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Not `cancel` and `gather`: a client of aiokafka that is being closed swallows a cancellation of its caller
            # (AIOKafkaClient.close), and a watcher would go on, and be waited for, for ever.
            await end(load, *watchers)
        for task in (*watchers, load):
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is not None:  # without its supervisor a run proves nothing
                raise error
        if load.cancelled():
            raise Stuck(f"expected the load and its troubles to end within {limit_s:.0f} s, waited in vain")
        disturbances = load.result()
        say("  stopping the workers")
        caches = await within(_CLOSING_S, "Triton's metrics", asyncio.to_thread(stage.caches))
        await within(_CLOSING_S, "the workers to stop", asyncio.to_thread(system.stop_workers))
        say("  reading what they left behind")
        folders = [folder / name for name in stage.names]
        reading = read_evidence(system.kafka, system.settings.app_id, folders, stage.inputs, stage.forged)
        evidence = await within(_READING_S, "all topics to be read", reading)
        seen = {"restarts": stage.restarts, "moved": stage.moved, "caches": caches, "stuck": stage.stuck}
        return evidence, disturbances, seen


async def _load(stage: ChaosStage, plan: ChaosPlan, table: TransactionTable) -> list[Disturbance]:
    """Send the traffic, make the troubles, and wait for the last decision."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        records = with_labels(table, plan.seed)
        sender = tasks.create_task(send(stage.system.kafka, records, plan.rate, over.is_set, stage.flow))
        disturbances = await _trouble(stage, plan)
        over.set()
    say(f"  {sender.result()} records sent; waiting for their decisions")
    try:
        await stage.wait_until_decided()
        await stage.wait_until_told()
    except Stuck as error:
        stage.note_stuck(f"in the end: {error}")
    return disturbances


async def _trouble(stage: ChaosStage, plan: ChaosPlan) -> list[Disturbance]:
    rng, disturbances = random.Random(plan.seed), list[Disturbance]()
    began_s = time.monotonic()
    times = sorted(rng.uniform(_BEFORE_S, max(_BEFORE_S, plan.seconds - _AFTER_S)) for _ in range(plan.kills))
    for at_s, name in zip(times, schedule(plan.kills, plan.kinds, plan.seed), strict=True):
        await asyncio.sleep(began_s + at_s - time.monotonic())
        begin_s = time.time()
        try:
            what = await TROUBLES[name](stage, rng)
        except Stuck as error:
            what = f"stuck: {error}"
            stage.note_stuck(f"{name}: {error}")
        disturbances.append(Disturbance(name, begin_s, time.time(), what))
        say(f"  {time.monotonic() - began_s:5.1f} s  {name}: {what} (from {begin_s:.1f})")
    await asyncio.sleep(max(began_s + plan.seconds - time.monotonic(), _AFTER_S))
    return disturbances


def _troubles(evidence: ChaosEvidence, disturbances: list[Disturbance], began_s: float) -> list[dict[str, Any]]:
    """Each trouble with its time, and how many seconds after its begin fresh transactions were decided.

    Fresh are transactions sent after the trouble began. `first_s`: until the first of them was decided;
    `every_partition_s`: until one was decided on every partition; `live_s`: until the live model decided one. None:
    that did not happen.
    """
    appended, out = evidence.appended_ms(), []
    live = {evidence.position(r) for r in evidence.decisions if is_live(r)}
    partitions = {r.partition for r in evidence.inputs}
    for disturbance in disturbances:
        first: dict[int, int] = {}
        alive: list[int] = []
        for record in evidence.inputs:
            at = record.partition, record.offset
            # at a foolish timestamp the decision comes before the record
            if disturbance.begin_s * 1000 <= record.timestamp <= appended.get(at, 0):
                first[at[0]] = min(appended[at], first.get(at[0], appended[at]))
                if at in live:
                    alive.append(appended[at])
        soon = {
            "first_s": min(first.values(), default=None),
            "every_partition_s": max(first.values()) if set(first) == partitions else None,
            "live_s": min(alive, default=None),
        }
        out.append(
            {"at_s": round(disturbance.begin_s - began_s, 1), "trouble": disturbance.name, "what": disturbance.what}
            | {"lasted_s": round(disturbance.end_s - disturbance.begin_s, 2)}
            | {k: None if v is None else round(v / 1000 - disturbance.begin_s, 2) for k, v in soon.items()}
        )
    return out
