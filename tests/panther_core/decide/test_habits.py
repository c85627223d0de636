"""What is usual for a user, in alerts."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.data.decision import Reason, Usual
from panther_core.data.events import Transaction
from panther_core.data.schema import AttributeSchema
from panther_core.decide.habits import usual_of
from panther_core.decide.reasons import in_words
from panther_core.state.record import state_dtype

LENGTH = 32
SCHEMA = AttributeSchema((10.0, 25.0, 100.0), ("food", "fuel"), ("chip",))


def states(hours: list[int], amounts: list[int], categories: list[int]) -> np.ndarray:
    """One user with these payments; of a longer list the ring keeps the newest."""
    out = np.zeros(1, state_dtype(LENGTH, 4))
    out["n"] = len(hours)
    for i, (hour, amount, category) in enumerate(zip(hours, amounts, categories, strict=True)):
        code = out["ring"][0, i % LENGTH]
        code["hour"], code["amount"], code["category"], code["channel"] = hour, amount, category, 1
    return out


def test_most_of_the_newest_payments_are_usual() -> None:
    hours = [9, 33, 10, 11, 12, 13, 14, 12, 11, 3]  # of the week; one at night
    found = usual_of(states(hours, [2] * 9 + [4], [1] * 6 + [2] * 4), np.array([10]), SCHEMA)[0]
    assert found is not None
    edges = (0.0, *SCHEMA.amount_edges)
    assert (found.payments, found.hour_from, found.hour_to) == (10, 9, 13)
    assert (found.amount_from, found.amount_to) == (edges[1], edges[2])
    assert found.categories == [SCHEMA.categories[0], SCHEMA.categories[1]]
    assert found.channels == [SCHEMA.channels[0]]


def test_a_stretch_of_hours_may_pass_midnight() -> None:
    found = usual_of(states([22, 23, 0, 1, 23], [2] * 5, [1] * 5), np.array([5]), SCHEMA)[0]
    assert found is not None
    assert (found.hour_from, found.hour_to) == (22, 0)


def test_of_few_payments_nothing_is_said() -> None:
    assert usual_of(states([9] * 4, [2] * 4, [1] * 4), np.array([4]), SCHEMA) == [None]


def test_payments_of_the_same_batch_are_not_among_them() -> None:
    """They may stand in the ring already, where one request decides several payments of a user."""
    before = states([9] * 40, [2] * 40, [1] * 40)
    later = states([9] * 40 + [3] * 4, [2] * 40 + [4] * 4, [1] * 44)
    assert usual_of(before, np.array([40]), SCHEMA) == usual_of(later, np.array([40]), SCHEMA)


HOUR, NOW = "The hour, 03:00 UTC, is unexpected for this user", "is unexpected for this user now"
WIDE = Usual(20, 5.0, None, 20, 12, [], [])
USUAL = Usual(20, 20.0, 60.0, 9, 20, ["food", "fuel"], ["pos"])


@pytest.mark.parametrize(
    ("code", "usual", "expected"),
    [
        ("UNUSUAL_AMOUNT", USUAL, "The amount, 412.00 EUR, is unlike what this user usually pays, 20.00 to 60.00"),
        ("UNUSUAL_AMOUNT", WIDE, "The amount, 412.00 EUR, is unlike what this user usually pays, some 25.00"),
        ("UNUSUAL_AMOUNT", None, "The amount, 412.00 EUR, is unlike what this user usually pays, some 25.00"),
        ("UNUSUAL_HOUR", USUAL, f"{HOUR}, who usually pays from 09:00 to 20:59"),
        ("UNUSUAL_HOUR", None, HOUR),
        ("UNUSUAL_HOUR", WIDE, HOUR),
        ("UNUSUAL_CATEGORY", USUAL, f"The kind of merchant, jewels, {NOW}; usual are food, fuel"),
        ("UNUSUAL_CHANNEL", USUAL, f"The payment channel, web, {NOW}; usual are pos"),
        ("NEW_DEVICE", USUAL, "as it was"),
    ],
)  # fmt: skip
def test_reasons_say_what_came_and_what_is_usual(code: str, usual: Usual | None, expected: str) -> None:
    paid = Transaction(
        transaction_id="t", user_id="u", merchant_id="m", amount=412.0, currency="EUR", merchant_category="jewels",
        channel="web", event_time=3 * 3_600_000,
    )  # fmt: skip
    said = in_words(Reason(code, "as it was", 0.5), paid, 3 * 3_600_000, 25.0, usual)
    assert said.description == expected
    assert said.contribution == 0.5
