"""No single field gives fraud away, and order tells about the next payment (the claims of docs/generator.md)."""

import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.generator.separability import auc, features, learnability, separability
from panther_core.data.table import TransactionTable, factorise


@pytest.fixture(scope="module")
def table() -> TransactionTable:
    return generate(GeneratorConfig(users=1500, days=120, seed=3))


def test_auc_by_hand() -> None:
    positive = np.array([False, False, True, True])
    assert auc(np.array([1.0, 2, 3, 4]), positive) == 1
    assert auc(np.array([4.0, 3, 2, 1]), positive) == 1  # direction-free
    assert auc(np.array([1.0, 1, 1, 1]), positive) == 0.5
    assert auc(np.array([1.0, 3, 2, 3]), positive) == 0.625  # one win, one loss, one win, one tie
    assert np.isnan(auc(np.array([1.0]), np.array([True])))


def test_no_single_field_separates(table: TransactionTable) -> None:
    worst = {name: row["all"] for name, row in separability(table).items()}
    assert max(worst.values()) < 0.80, worst


def test_order_and_person_tell_about_the_next_payment(table: TransactionTable) -> None:
    bits = learnability(table)
    assert bits["last (category, channel)"] < bits["nothing (unconditional)"] - 0.6
    assert bits["user, last"] < bits["user"] - 0.5
    assert bits["user, last"] < bits["user, last; order shuffled within each user"] - 0.5


def test_features_by_hand() -> None:
    hour = 3_600_000
    at = np.array([0, 0.5, 0.6, 1.4, 30]) * hour + 1_700_000_000_000
    people = ["a", "b", "a", "a", "a"]
    table = TransactionTable(
        transaction_id=np.array(list("12345")),
        user=factorise(people),
        merchant=factorise(["m", "m", "n", "m", "o"]),
        category=factorise(["c"] * 5),
        channel=factorise(["x"] * 5),
        currency=factorise(["EUR"] * 5),
        amount=np.ones(5),
        time_ms=at.astype(np.int64),
        label=np.array([0, 0, 1, 0, 1], np.int8),
    )
    found = features(table)
    assert found["payments in the last hour"].tolist() == [0, 0, 1, 1, 0]
    assert found["payments in the last day"].tolist() == [0, 0, 1, 2, 0]
    assert found["payments before"].tolist() == [0, 0, 1, 2, 3]
    assert found["new merchant"].tolist() == [0, 0, 1, 0, 1]
    assert found["gap to the last payment"] == pytest.approx([1000, 1000, 0.6, 0.8, 28.6], abs=1e-3)
    with pytest.raises(BadInput, match="labelled fraud"):
        separability(table)
