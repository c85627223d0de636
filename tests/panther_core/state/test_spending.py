"""What a user usually spends: the columns against a count of the user's payments one by one."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.base.times import DAY_MS
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from panther_core.state.features import NAMES, against_usual
from panther_core.state.history import prepare
from panther_core.state.spending import UNUSUAL, WINDOWS_D
from tests.panther_core.state.test_state import SCHEMA


def log() -> TransactionTable:
    """Users with payments that are far too large now and then, and some pauses longer than the state's days."""
    table = generate(GeneratorConfig(users=40, days=120, seed=5))
    rng = np.random.default_rng(0)
    table.amount[rng.random(len(table)) < 0.05] *= 6
    gone = (table.user.index % 5 == 0) & (table.time_ms > table.time_ms[0] + 30 * DAY_MS)
    back = table.time_ms > table.time_ms[0] + 80 * DAY_MS
    return table.take(np.flatnonzero(~gone | back))


def counted(table: TransactionTable, rows: list[int]) -> list[dict[str, float]]:
    """Columns of one user's payments, by going through them."""
    past: list[tuple[int, float, bool]] = []  # day, ratio, unusual
    total, known, out = 0.0, 0, []
    for row in rows:
        amount, day = float(table.amount[row]), int(table.time_ms[row]) // DAY_MS
        usual = max(total / known if known else amount, 1e-2)
        ratio = max(amount, 1e-2) / usual
        unusual = known >= 3 and ratio > UNUSUAL
        columns = {"ratio": ratio}
        for days in WINDOWS_D:
            own = [(r, u) for d, r, u in past if day - days < d <= day]
            columns[f"count_{days}_days"] = len(own)
            columns[f"unusual_{days}_days"] = sum(u for _, u in own)
        odd = [d for d, _, u in past if u and day - 14 < d <= day]
        columns["unusual_began_d"] = day - min(odd) if odd else 99
        out.append(columns)
        past.append((day, ratio, unusual))
        if known < 3 or amount <= 3 * usual:
            total += min(amount, UNUSUAL * usual) if known >= 3 else amount
            known += 1
    return out


def test_columns_are_those_of_a_count_one_by_one() -> None:
    table = log()
    history = prepare(table.events(SCHEMA, None), SCHEMA, 16)
    column = {name: history.features[:, NAMES.index(name)] for name in NAMES if name.endswith(("_days", "began_d"))}
    assert (column["unusual_14_days"] > 0).any()
    for user in range(40):
        rows = np.flatnonzero((table.user.index == user) & history.kept).tolist()
        for row, want in zip(rows, counted(table, rows), strict=True):
            assert against_usual(history.features[row : row + 1])[0] == pytest.approx(want.pop("ratio"), rel=1e-4)
            for name, value in want.items():
                assert column[name][row] == pytest.approx(np.log1p(value), abs=1e-5), (name, row)


def test_a_late_payment_counts_on_its_own_day() -> None:
    table = log().take(slice(0, 400))
    user = int(np.bincount(table.user.index).argmax())
    rows = np.flatnonzero(table.user.index == user)
    ordered = prepare(table.take(rows).events(SCHEMA, None), SCHEMA, 16).states
    late = np.concatenate([rows[:3], rows[4:], rows[3:4]])
    other = prepare(table.take(late).events(SCHEMA, None), SCHEMA, 16).states
    assert ordered["days"][0, 0].tolist() == other["days"][0, 0].tolist(), "payments by day, in any order"
