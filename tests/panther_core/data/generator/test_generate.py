"""The generator: the same bytes for a seed, a table that keeps its contract, habits and fraud as documented."""

import hashlib
import time

import msgspec
import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.events import decode_transaction
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.generator.build import zero_padded
from panther_core.data.generator.config import FRAUD_KINDS
from panther_core.data.generator.rows import bell, spread, uniform
from panther_core.data.table import TransactionTable

SMALL = GeneratorConfig(users=300, days=60, merchants=300, seed=7)


@pytest.fixture(scope="module")
def table() -> TransactionTable:
    return generate(SMALL)


def digest(table: TransactionTable) -> str:
    columns = [table.transaction_id, table.amount, table.time_ms, table.label]
    columns += [
        getattr(table, n).index for n in ("user", "merchant", "category", "channel", "country", "device", "fraud_kind")
    ]
    return hashlib.sha256(b"".join(c.tobytes() for c in columns) + repr(table.profile).encode()).hexdigest()


def test_same_seed_same_bytes(table: TransactionTable) -> None:
    assert digest(generate(SMALL)) == digest(table)
    assert digest(generate(msgspec.structs.replace(SMALL, seed=8))) != digest(table)


def test_table_is_in_order_and_within_its_period(table: TransactionTable) -> None:
    assert (np.diff(table.time_ms) >= 0).all()
    assert table.time_ms[0] >= SMALL.start_ms
    assert table.time_ms[-1] < SMALL.start_ms + SMALL.days * 86_400_000
    assert len(set(table.transaction_id.tolist())) == len(table)
    assert np.isfinite(table.amount).all()
    assert table.amount.min() >= 0.5
    for name in ("user", "merchant", "category", "channel", "country"):
        column = getattr(table, name)
        assert column.index.min() >= 0
        assert column.index.max() < len(column.words)
    assert all(len(values) == SMALL.users for values in table.profile.values())


def test_rows_pass_the_checks_of_the_stream(table: TransactionTable) -> None:
    for row in table.take(slice(0, 500)).rows():
        assert decode_transaction(msgspec.json.encode(row)) == row


def test_rates_are_what_was_asked_for(table: TransactionTable) -> None:
    honest = int((table.label == 0).sum())
    assert table.fraud_kind is not None
    counts = np.bincount(table.fraud_kind.index[table.label == 1], minlength=len(FRAUD_KINDS))
    assert counts.tolist() == [round(rate * honest) for rate in SMALL.fraud_rates.values()]
    assert 0.005 < table.label.mean() < 0.01
    active_days = SMALL.users * SMALL.days * (1 - SMALL.newcomer_share / 2)
    assert honest / active_days == pytest.approx(SMALL.mean_transactions_per_day, rel=0.15)


def test_newcomers_start_in_the_middle(table: TransactionTable) -> None:
    first_day = np.full(SMALL.users, 10**6)
    np.minimum.at(first_day, table.user.index, (table.time_ms - SMALL.start_ms) // 86_400_000)
    assert (first_day > 15).sum() > 10
    settled = generate(msgspec.structs.replace(SMALL, newcomer_share=0.0))
    first_day[:] = 10**6
    np.minimum.at(first_day, settled.user.index, (settled.time_ms - SMALL.start_ms) // 86_400_000)
    assert (first_day > 15).sum() <= 3


def test_profile_fields_know_every_fact(table: TransactionTable) -> None:
    assert list(table.profile) == [field.name for field in PROFILE]
    for field in PROFILE:
        assert all(field.code(value) for value in table.profile[field.name]), field.name


def test_no_fraud_when_none_is_asked_for() -> None:
    table = generate(GeneratorConfig(users=20, days=10, merchants=20, **dict.fromkeys(FRAUD_KINDS, 0.0)))  # type: ignore[arg-type]
    assert not table.label.any()


@pytest.mark.parametrize(("users", "days", "mean"), [(2, 1, 0.5), (2, 400, 1.0), (50, 3, 20.0), (3, 7, 50.0)])
def test_odd_sizes(users: int, days: int, mean: float) -> None:
    config = GeneratorConfig(
        users=users, days=days, merchants=20, mean_transactions_per_day=mean, account_takeover=0.05
    )
    for seed in range(5):
        try:
            table = generate(msgspec.structs.replace(config, seed=seed))
        except BadInput:
            assert users * days * mean < 5  # so small that nobody may have paid
        else:
            assert (np.diff(table.time_ms) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 1}, "expected 2 <= users <= 5e\\+06, got 1"),
        ({"merchants": 3}, "expected 20 <= merchants"),
        ({"mean_transactions_per_day": float("nan")}, "mean_transactions_per_day <= 50, got nan"),
        ({"card_testing": -0.1}, "expected 0 <= card_testing"),
        ({"start": "1 May"}, "expected start as a date like 2025-01-01, got '1 May'"),
        ({"start": "1999-01-01"}, "between 2000-01-01"),
    ],
)
def test_wrong_configs(change: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        GeneratorConfig(**change)  # type: ignore[arg-type]


def test_speed() -> None:
    """A thirtieth of what an idle core does (docs/generator.md), so that a busy machine does not fail it."""
    config = GeneratorConfig(users=2000, days=60)
    begin = time.perf_counter()
    table = generate(config)
    assert len(table) / (time.perf_counter() - begin) > 30_000


def test_zero_padded_and_spread() -> None:
    assert zero_padded("t", [0, 42, 99], 3) == ["t000", "t042", "t099"]
    group, place = spread(np.array([2, 0, 3]))
    assert group.tolist() == [0, 0, 2, 2, 2]
    assert place.tolist() == [0, 1, 0, 1, 2]


def test_hashed_chance_is_uniform_and_depends_on_every_fact() -> None:
    x = uniform(1, np.arange(100_000), 5)
    assert np.histogram(x, 10, (0, 1))[0].std() < 300
    assert abs(np.corrcoef(x, uniform(1, np.arange(100_000), 6))[0, 1]) < 0.02
    assert abs(np.corrcoef(x, uniform(2, np.arange(100_000), 5))[0, 1]) < 0.02
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.02
    z = bell(1, np.arange(100_000))
    assert abs(z.mean()) < 0.02
    assert z.std() == pytest.approx(1, abs=0.02)
