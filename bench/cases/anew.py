"""The topic `transactions` is deleted and made anew under its name, so that offsets begin at 0 again."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.cases.seen import Seen
from bench.cases.stage import Answer, CaseStage, Fields
from bench.topics import held_now, make_anew
from panther_core.data.topics import TRANSACTIONS


async def topic_made_anew(stage: CaseStage, seen: Seen) -> None:
    """Worker stopped meanwhile: the same user pays again, a new user pays, and the new log outgrows the old one."""
    seen.decided(await stage.pay(*_payments(stage, "bob", 0, 5)), "bob before")
    await _made_anew(stage)
    await stage.start_worker()
    payments = [*_payments(stage, "bob", 100, 5), *_payments(stage, "carol", 200, 5)]
    answers = await stage.pay(*payments)
    seen.decided(answers, "bob and carol after it")
    _own_decisions(seen, payments, answers)
    _lengths(seen, answers[:5], 5)
    _lengths(seen, answers[5:], 0)

    await _made_anew(stage)
    payments = _payments(stage, "bob", 300, 40)
    places = await stage.send_payments(*payments)
    await stage.start_worker()
    answers = await stage.answers(places)
    seen.decided(answers, "anew and grown beyond the old offsets")
    _own_decisions(seen, payments, answers)
    _lengths(seen, answers, 10)
    seen.that((lag := await stage.wait_lag()) == 0, f"lag {lag}")


async def made_anew_under_a_running_worker(stage: CaseStage, seen: Seen) -> None:
    """The worker goes on, or ends with a line that says why and goes on when it is started again."""
    seen.decided(await stage.pay(*_payments(stage, "bob", 0, 5)), "before")
    await make_anew(stage.kafka, stage.settings)
    stage.begin_anew()
    payments = _payments(stage, "bob", 100, 5)
    places = await stage.send_payments(*payments)
    answers = await stage.answers(places, patience_s=60)
    if not all(answer.decisions for answer in answers):
        ended = await stage.ended(30)
        lines = stage.lines(rf"{TRANSACTIONS}.*anew|anew.*{TRANSACTIONS}")
        seen.that(ended and bool(lines), f"the worker ended ({ended}) and said {lines[-1:] or 'nothing of it'}")
        await stage.stop_worker()
        await stage.start_worker()
        answers = await stage.answers(places)
    seen.decided(answers, "after it")
    _own_decisions(seen, payments, answers)


async def committed_beyond_the_end(stage: CaseStage, seen: Seen) -> None:
    """The group's committed offsets outlived the log: another cluster, an older copy, an election that lost records."""
    users = [f"far-{i}" for i in range(20)]  # on every partition
    seen.decided(await stage.pay(*[stage.payment(f"far-{i}", users[i % 20]) for i in range(60)]), "before")
    seen.that((lag := await stage.wait_lag()) == 0, f"lag {lag}")
    ends = {p: offsets.stop for p, offsets in (await held_now(stage.kafka)).items()}
    await _made_anew(stage)
    await _commit(stage, ends)
    places = await stage.send_payments(*[stage.payment(f"far-new-{i}", user) for i, user in enumerate(users)])
    await asyncio.to_thread(stage.system.start_worker)
    ended = await stage.ended(60)
    status, _ = (0, "") if ended else await stage.ask("/readyz")
    lines = stage.lines(rf"{TRANSACTIONS}.*(committed|ends at)")
    seen.that(status != 200, f"refused: ended {ended}, /readyz {status}")
    seen.that(bool(lines), f"it says: {lines[0][:200] if lines else 'nothing of the offset'}")
    await stage.stop_worker()
    await _commit(stage, dict.fromkeys(ends, 0))
    await stage.start_worker()
    seen.decided(await stage.answers(places), "once the offsets are set right")


def _payments(stage: CaseStage, user: str, first: int, count: int) -> list[Fields]:
    return [stage.payment(f"anew-{first + i}", f"keep-{user}") for i in range(count)]


async def _made_anew(stage: CaseStage) -> None:
    await stage.wait_lag()
    await stage.stop_worker()
    await make_anew(stage.kafka, stage.settings)
    stage.begin_anew()


async def _commit(stage: CaseStage, offsets: dict[int, int]) -> None:
    options = stage.kafka.client_options() | {"group_id": stage.settings.app_id, "enable_auto_commit": False}
    async with AIOKafkaConsumer(**options) as consumer:
        wanted = {TopicPartition(TRANSACTIONS, p): offset for p, offset in offsets.items()}
        consumer.assign(list(wanted))
        await consumer.commit(wanted)


def _own_decisions(seen: Seen, payments: list[Fields], answers: list[Answer]) -> None:
    pairs = zip(payments, answers, strict=True)
    others = sum(d.transaction_id != payment["transaction_id"] for payment, answer in pairs for d in answer.decisions)
    seen.that(not others, f"{others} answered with a decision of another transaction")


def _lengths(seen: Seen, answers: list[Answer], first: int) -> None:
    got = [answer.decisions[0].history_len for answer in answers if answer.decisions]
    seen.that(got == list(range(first, first + len(answers))), f"history of {got[:1]} to {got[-1:]}")
