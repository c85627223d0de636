"""Upstream services that write in Kafka transactions, some of which they abort."""

from __future__ import annotations

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, Fields, sending
from bench.topics import transact
from panther_core.kafka.answers import Position


async def aborted_transactions(stage: CaseStage, seen: Seen) -> None:
    """Committed payments are decided, aborted ones are not, and the markers leave no lag behind."""
    kept = [stage.payment(f"kept-{i}", "upstream") for i in range(3)]
    dropped = [stage.payment(f"dropped-{i}", "upstream", amount=9999.0) for i in range(3)]
    aborted = await _transact(stage, dropped, commit=False)
    committed = await _transact(stage, kept, commit=True)
    aborted += await _transact(stage, dropped, commit=False)
    seen.decided(await stage.answers(committed), "committed")
    answered = sum(answer.outcome != "nothing" for answer in await stage.answers(aborted, patience_s=0))
    seen.that(not answered, f"aborted: {answered} of {len(aborted)} answered")
    (after,) = await stage.pay(stage.payment("after-abort", "upstream"))
    lengths = [decision.history_len for decision in after.decisions]
    seen.that(lengths == [3], f"the next payment has a history of {lengths}: aborted ones are not in it")
    await _transact(stage, dropped, commit=False)
    seen.that((lag := await stage.wait_lag()) == 0, f"lag behind a marker {lag}")
    shown = await stage.metric("panther_consumer_lag")
    seen.that(shown == 0, f"lag shown {shown:.0f}")


async def _transact(stage: CaseStage, payments: list[Fields], commit: bool) -> list[Position]:
    return await transact(stage.kafka, [(r.key, r.value) for r in map(sending, payments)], commit)
