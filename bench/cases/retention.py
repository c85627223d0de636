"""Retention deleted records before they were read: the worker was down for longer than the topic keeps them."""

from __future__ import annotations

from collections.abc import Callable

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage
from bench.topics import held_now, trim

_TRIMMED = "panther_records_trimmed_total"
_PAYMENTS, _USERS = 100, 20


async def retention_passed(stage: CaseStage, seen: Seen) -> None:
    """All but the last two records of each partition are gone, then all of them."""
    await _down_while_trimmed(stage, seen, "partly", lambda end: max(0, end - 2))
    await _down_while_trimmed(stage, seen, "to the very end", lambda end: end)


async def _down_while_trimmed(stage: CaseStage, seen: Seen, name: str, before: Callable[[int], int]) -> None:
    # on every partition: where nothing was ever committed, nothing was missed
    first = [stage.payment(f"{name}-before-{i}", f"{name}-{i}") for i in range(_USERS)]
    seen.decided(await stage.pay(*first), f"{name}: before")
    await stage.wait_lag()
    await stage.stop_worker()
    committed = {p: offsets.stop for p, offsets in (await held_now(stage.kafka)).items()}
    payments = [stage.payment(f"{name}-{i}", f"{name}-{i % _USERS}") for i in range(_PAYMENTS)]
    places = await stage.send_payments(*payments)
    bounds = {p: max(committed[p], before(offsets.stop)) for p, offsets in (await held_now(stage.kafka)).items()}
    await trim(stage.kafka, bounds)
    gone = sum(bounds[p] - committed[p] for p in bounds)
    await stage.start_worker()
    left = [place for place in places if place[1] >= bounds[place[0]]]
    seen.decided(await stage.answers(left), f"{gone} of {_PAYMENTS} trimmed, the rest")
    counted = await stage.metric(_TRIMMED)
    seen.that(counted == gone, f"{_TRIMMED} {counted:.0f}")
    lines = stage.lines(r"(warning|error).*(deleted|retention|trimmed)|(deleted|retention|trimmed).*(before|never)")
    seen.that(bool(lines), f"it says {lines[0][:160] if lines else 'nothing of it'}")
    seen.that((lag := await stage.wait_lag()) == 0, f"lag {lag}")
    shown = await stage.metric("panther_consumer_lag")
    seen.that(shown == 0, f"lag shown {shown:.0f}")
    seen.decided(await stage.pay(stage.payment(f"{name}-after")), "afterwards")
    await stage.wait_lag()
    await stage.restart_worker()
    again = await stage.metric(_TRIMMED)
    seen.that(again == 0, f"the next start counts {again:.0f}")
