"""Ids that are the program's own words, and forged records on the topics that the worker reads back."""

from __future__ import annotations

from bench.cases.seen import Seen
from bench.cases.stage import CaseStage, sending
from bench.outsiders import FORGED_SCORE, ODD_IDS, POISON_IDS, decision, forgeries
from bench.topics import held_now
from panther_core.data.topics import SCORES
from panther_core.kafka.answers import headers_of


async def poison_keys(stage: CaseStage, seen: Seen) -> None:
    """Ids with control characters are dead letters, odd ones are decided, also after the next start."""
    poisoned = [
        *[stage.payment(f"poison-user-{i}", user_id=word) for i, word in enumerate(POISON_IDS)],
        *[stage.payment(f"poison\0{i}", merchant_id=f"m-{i}") for i in range(2)],
        *[stage.payment(f"poison-merchant-{i}", merchant_id=word) for i, word in enumerate(POISON_IDS)],
    ]
    seen.refused(await stage.pay(*poisoned), "invalid_field", "ids with control characters")
    odd = [stage.payment(f"odd-{i}", user_id=word) for i, word in enumerate(ODD_IDS)]
    seen.decided(await stage.pay(*odd), "odd ids")
    await stage.restart_worker()
    again = await stage.pay(*[stage.payment(f"odd-again-{i}", user_id=word) for i, word in enumerate(ODD_IDS)])
    seen.decided(again, "after the next start")
    lengths = {d.history_len for answer in again for d in answer.decisions}
    seen.that(min(lengths, default=0) >= 1, f"each with a history of {sorted(lengths)}")


async def forged_outputs_are_skipped(stage: CaseStage, seen: Seen) -> None:
    """Broken and forged decisions in the application's name, while it is down; one is for a coming offset."""
    seen.decided(await stage.pay(stage.payment("forged-0", "victim")), "before")
    ((partition, _),) = await stage.send_payments(stage.payment("forged-1", "victim"))
    await stage.wait_lag()
    await stage.stop_worker()
    coming = (await held_now(stage.kafka))[partition].stop
    forged = forgeries(stage.settings.app_id, partition, coming)
    likely = decision(f"{stage.run}-other", f"{stage.run}-victim")
    forged.append((SCORES, (b"", likely, headers_of(stage.settings.app_id, partition, coming))))
    await stage.forge(forged, partition)
    places = await stage.send([sending(stage.payment(f"forged-{2 + i}", "victim")) for i in range(3)])
    await stage.start_worker()
    answers = await stage.answers(places)
    seen.decided(answers, f"after {len(forged)} forged records")
    scores = [d.score for answer in answers for d in answer.decisions]
    seen.that(FORGED_SCORE not in scores, f"scores {scores}")
    await stage.restart_worker()
    seen.decided(await stage.pay(stage.payment("forged-9", "victim")), "after another start")
    seen.that(await stage.stop_worker(), "it stops on SIGTERM")
    await stage.start_worker()
