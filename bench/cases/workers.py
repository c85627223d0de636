"""A second worker that is started over the folder of the first."""

from __future__ import annotations

import asyncio
import time

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage

_PAYMENTS, _USERS = 300, 20


async def two_workers_one_folder(stage: CaseStage, seen: Seen) -> None:
    """The second one is refused in a line, or both work; either way every payment is decided once."""
    second = await asyncio.to_thread(stage.system.start_worker, "second", folder="worker")
    payments = [stage.payment(f"folder-{i}", f"folder-{i % _USERS}") for i in range(_PAYMENTS)]
    places = []
    for low in range(0, _PAYMENTS, 10):
        places += await stage.send_payments(*payments[low : low + 10])
        await asyncio.sleep(0.4)
    answers = await stage.answers(places, patience_s=60)
    alive = second.alive()
    seen.that(True, "both work" if alive else f"the second ended: {second.log_tail(1)[:200]}")
    seen.decided(answers, "while it is there")
    doubled = sum(len(answer.decisions) > 1 for answer in answers)
    seen.that(not doubled, f"{doubled} decided twice")
    began_s = time.monotonic()
    await asyncio.to_thread(stage.system.stop_worker, "second")
    after = await stage.pay(*[stage.payment(f"folder-after-{i}", f"folder-{i}") for i in range(_USERS)])
    seen.decided(after, f"after it left ({time.monotonic() - began_s:.0f} s)")
    lengths = {decision.history_len for answer in after for decision in answer.decisions}
    seen.that(lengths == {_PAYMENTS // _USERS}, f"with histories of {sorted(lengths)}")
