"""The list of cases, and `panther bench cases`, which runs them on real parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from bench.cases import anew, codecs, foreign, hostile, labels, partitions, retention, times, twice, upstream, workers
from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, running_case_stage
from bench.load import Load, label_delay_ms, long_table
from infra.local.training import train_once
from panther_core.base.console import say
from panther_core.base.errors import BadInput, PantherError

_LIMIT_S = 240.0  # of one case


@dataclass(frozen=True)
class Case:
    """One case: its name, and the function that acts on a stage and notes what it sees."""

    name: str
    run: Callable[[CaseStage, Seen], Awaitable[None]]
    own_stack: bool = False
    """It changes the topics so that no other case could begin with them: it gets Kafka and Triton of its own."""
    quick: bool = True
    """It takes a few seconds on a running stage, so the test suite runs it too."""


CASES: tuple[Case, ...] = (
    Case("compressed-by-the-producer", codecs.compressed_by_the_producer),
    Case("records-without-a-timestamp", times.foolish_timestamps),
    Case("clock-in-2099", times.clock_in_2099),
    Case("foreign-partitioner", partitions.foreign_partitioner),
    Case("connect-debezium-cloudevents", foreign.envelopes_nulls_and_tombstones),
    Case("id-used-twice", twice.id_used_twice),
    Case("copies", twice.copies),
    Case("one-id-by-two-users", twice.one_id_by_two_users),
    Case("aborted-transactions", upstream.aborted_transactions),
    Case("bad-labels", labels.bad_labels, quick=False),
    Case("frauds-only-labels", labels.frauds_only, quick=False),
    Case("poison-keys", hostile.poison_keys, quick=False),
    Case("forged-outputs", hostile.forged_outputs_are_skipped, quick=False),
    Case("producer-of-garbage", foreign.a_producer_of_garbage, quick=False),
    Case("two-workers-one-folder", workers.two_workers_one_folder, quick=False),
    Case("compressed-by-the-broker", codecs.compressed_by_the_broker, quick=False),
    Case("topic-made-anew", anew.topic_made_anew, own_stack=True, quick=False),
    Case("topic-made-anew-while-running", anew.made_anew_under_a_running_worker, own_stack=True, quick=False),
    Case("committed-beyond-the-end", anew.committed_beyond_the_end, own_stack=True, quick=False),
    Case("retention-passed", retention.retention_passed, own_stack=True, quick=False),
    Case("more-partitions-than-states", partitions.more_partitions_than_states, own_stack=True, quick=False),
)


def run_cases(folder: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Run the cases (`only`: those of these names); `ok` only if each is. Raises BadInput for an unknown name."""
    names = [case.name for case in CASES]
    if unknown := set(only) - set(names):
        raise BadInput(f"expected cases out of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    folder = folder.resolve()
    table = long_table(Load(150, history=0, seed=0), 20_000)
    train_once(folder, table, "cases", label_delay_ms(table), size="tiny")
    models = alert_on_everything(folder / "models", folder / "alerting")
    wanted = [case for case in CASES if not only or case.name in only]
    results = asyncio.run(_run(folder, models, wanted))
    found = [results[case.name] for case in wanted]
    return {"cases": found, "ok": all(result["ok"] for result in found)}


def alert_on_everything(models: Path, to: Path) -> Path:
    """Copy version 1 below `to` with a threshold of 0, so that a case sees an alert of each decision."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(models / "1", to / "1")
    manifest = to / "1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"threshold": 0.0}))
    return to


async def _run(folder: Path, models: Path, cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    shared = [case for case in cases if not case.own_stack]
    if shared:
        async with running_case_stage(folder / "shared", models) as stage:
            for case in shared:
                results[case.name] = await run_case(case, stage)
    for case in cases:
        if case.own_stack:
            async with running_case_stage(folder / "own", models) as stage:
                results[case.name] = await run_case(case, stage)
    return results


async def run_case(case: Case, stage: CaseStage) -> dict[str, Any]:
    """Run one case and see that the worker still decides afterwards: `name`, `outcome` in words, `ok`."""
    seen = Seen()
    try:
        async with asyncio.timeout(_LIMIT_S):
            await case.run(stage, seen)
            if not case.own_stack:
                seen.decided(await stage.pay(stage.payment(f"after {case.name}", "afterwards")), "afterwards")
    except TimeoutError:
        seen.that(False, f"the case did not end in {_LIMIT_S:.0f} s")
    except Exception as error:  # whatever it is, the other cases have their turn
        seen.that(False, f"{type(error).__name__}: {str(error)[:500]}")
    if not seen.ok and (why := stage.why_ended()):
        seen.that(False, f"the worker has ended: {why}")
    if not seen.ok and not case.own_stack:
        with contextlib.suppress(PantherError):  # the next case says what is wrong with the worker
            await stage.recover()
    say(f"  {'ok   ' if seen.ok else 'WRONG'} {case.name}: {escape(seen.outcome)}")
    return {"name": case.name, "outcome": seen.outcome, "ok": seen.ok}
