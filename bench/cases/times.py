"""Records without a timestamp, with a foolish one, and clocks that are wrong by decades."""

from __future__ import annotations

import time

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, sending
from bench.topics import take_any_timestamp

_IN_2099_MS = 4_070_908_800_000
_SLOW_MS = 60_000  # a latency above this was measured from a foolish timestamp


async def foolish_timestamps(stage: CaseStage, seen: Seen) -> None:
    """-1 is Kafka's "no timestamp", 0 is what old messages get, seconds in place of ms are a common slip."""
    await take_any_timestamp(stage.kafka)
    now_s = time.time()
    stamps = {"now": None, "none": -1, "zero": 0, "seconds": int(now_s), "1999": 946_000_000_000, "2099": _IN_2099_MS}
    records = [sending(stage.payment(f"stamp-{name}", name), timestamp_ms=ms) for name, ms in stamps.items()]
    for name, answer in zip(stamps, await stage.answers(await stage.send(records)), strict=True):
        seen.decided([answer], f"timestamp {name}")
        slow = [d.latency_ms for d in answer.decisions if not 0 <= d.latency_ms < _SLOW_MS]
        seen.that(not slow, f"latency {slow or 'sane'}")


async def clock_in_2099(stage: CaseStage, seen: Seen) -> None:
    """Record and event agree on 2099; the user's next payments, with right times, are like any others."""
    await take_any_timestamp(stage.kafka)
    user = "future"
    before = stage.payment("2099-0", user)
    far = stage.payment("2099-1", user, event_time=_IN_2099_MS)
    text = stage.payment("2099-2", user, event_time="2099-01-01T00:00:00Z")
    records = [sending(before), *[sending(far, timestamp_ms=_IN_2099_MS), sending(text, timestamp_ms=_IN_2099_MS)]]
    first, *refused = await stage.answers(await stage.send([*records, sending(far)]))
    seen.decided([first], "before")
    seen.refused(refused, "time_out_of_range", "in 2099")
    after = await stage.pay(*[stage.payment(f"2099-{3 + i}", user) for i in range(3)])
    seen.decided(after, "afterwards")
    late = [decision.late for answer in after for decision in answer.decisions]
    seen.that(not any(late), f"late {late}")
