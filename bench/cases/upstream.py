"""Upstream services that write in Kafka transactions, some of which they abort."""

from __future__ import annotations

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, sending
from bench.topics import held_now, transact


async def aborted_transactions(stage: CaseStage, seen: Seen) -> None:
    """Committed payments are decided, aborted ones are not, and the markers leave no lag behind."""
    before = {p: offsets.stop for p, offsets in (await held_now(stage.kafka)).items()}
    kept = [stage.payment(f"kept-{i}", "upstream") for i in range(3)]
    dropped = [stage.payment(f"dropped-{i}", "upstream", amount=9999.0) for i in range(3)]
    for payments, commit in ((dropped, False), (kept, True), (dropped, False)):
        records = [sending(payment) for payment in payments]
        await transact(stage.kafka, [(r.key, r.value or b"") for r in records], commit)
    ends = {p: offsets.stop for p, offsets in (await held_now(stage.kafka)).items()}
    (partition,) = (p for p in ends if ends[p] != before[p])
    answers = await stage.answers([(partition, before[partition] + 4 + i) for i in range(3)])  # 3 records and a marker
    seen.decided(answers, "committed")
    (after,) = await stage.pay(stage.payment("after-abort", "upstream"))
    lengths = [decision.history_len for decision in after.decisions]
    seen.that(lengths == [3], f"the next payment has a history of {lengths}: aborted ones are not in it")
    await transact(stage.kafka, [(r.key, r.value or b"") for r in map(sending, dropped)], commit=False)
    seen.that((lag := await stage.wait_lag()) == 0, f"lag behind a marker {lag}")
    shown = await stage.metric("panther_consumer_lag")
    seen.that(shown == 0, f"lag shown {shown:.0f}")
