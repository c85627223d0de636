"""A transaction id used again: a copy, another payment under the same id, one id by two users."""

from __future__ import annotations

from bench.cases.seen import Seen
from bench.cases.stage import Answer, CaseStage, Fields

_MANY = 12  # payments between a payment and its copy: more than the eight decisions that states once held


async def id_used_twice(stage: CaseStage, seen: Seen) -> None:
    """A terminal that counts its receipts anew each day: the same id, another shop, another amount."""
    home = [stage.payment(f"home-{i}", "shopper", merchant_id="m-home", amount=10 + i) for i in range(4)]
    await stage.pay(*home)
    first = stage.payment("receipt-1", "shopper", amount=4.5, merchant_id="m-kiosk")
    other = first | {"amount": 4999.0, "merchant_id": "m-jeweller", "merchant_category": "jewelry", "channel": "online"}
    kiosk, jeweller = await stage.pay(first, other)
    seen.decided([kiosk, jeweller], "both payments")
    scores = [decision.score for answer in (kiosk, jeweller) for decision in answer.decisions]
    seen.that(len(set(scores)) == 2, f"scores {scores}")
    marks = [getattr(d, "id_reused", None) for answer in (kiosk, jeweller) for d in answer.decisions]
    seen.that(marks == [False, True], f"id_reused {marks}")
    ids = _alert_ids(kiosk, jeweller)
    seen.that(len(ids) == len(set(ids)), f"{len(set(ids))} alert ids of {len(ids)} alerts")
    (after,) = await stage.pay(stage.payment("home-4", "shopper"))
    lengths = [decision.history_len for decision in after.decisions]
    seen.that(lengths == [6], f"the next payment has a history of {lengths}")


async def copies(stage: CaseStage, seen: Seen) -> None:
    """The same payment again, at once and after more than eight others: the same decision; then it is no new event."""
    first = stage.payment("copy", "copier")
    original, soon = await stage.pay(first, first)
    _same(seen, original, soon, "a copy at once")
    await stage.pay(*[stage.payment(f"between-{i}", "copier") for i in range(_MANY)])
    (late,) = await stage.pay(first)
    _same(seen, original, late, f"a copy after {_MANY} others")
    (after,) = await stage.pay(stage.payment("after-copies", "copier"))
    lengths = [decision.history_len for decision in after.decisions]
    seen.that(lengths == [1 + _MANY], f"the next payment has a history of {lengths}")


async def one_id_by_two_users(stage: CaseStage, seen: Seen) -> None:
    """Two platforms count on their own, so two users have payments of one id."""
    payments: list[Fields] = [stage.payment("shared", user) for user in ("ann", "ben")]
    answers = await stage.pay(*payments)
    seen.decided(answers, "both")
    users = [decision.user_id for answer in answers for decision in answer.decisions]
    seen.that(users == [payment["user_id"] for payment in payments], "each has a decision of its own")
    ids = _alert_ids(*answers)
    seen.that(len(ids) == 2 and len(set(ids)) == 2, f"{len(set(ids))} alert ids of {len(ids)} alerts")


def _same(seen: Seen, original: Answer, copy: Answer, what: str) -> None:
    seen.decided([original, copy], what)
    seen.that(original.decisions == copy.decisions, "the same decision" if original == copy else "another decision")
    ids = _alert_ids(original, copy)
    seen.that(len(set(ids)) <= 1, f"{len(set(ids))} alert id")


def _alert_ids(*answers: Answer) -> list[str]:
    return [alert.alert_id for answer in answers for alert in answer.alerts]
