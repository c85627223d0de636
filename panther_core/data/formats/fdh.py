"""Fraud Detection Handbook, simulated transactions: `transactions.parquet` (or .csv) with the handbook's columns.

The handbook publishes daily pickles; fdh_convert turns them into that one file. The user is the customer, the merchant
is the terminal; there is no category, channel, currency, country or device. The profile is the customer's home
coordinates (0..100), from `customers.csv.gz` if that file lies in the same folder. The scenarios of TX_FRAUD_SCENARIO
are the fraud kinds. The whole file is held in memory and sorted by time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part, beside, none_given
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import fail, locate, read_columns
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words

SCENARIOS = ("amount_over_220", "terminal_compromised", "customer_compromised")  # TX_FRAUD_SCENARIO 1, 2, 3
PROFILE = tuple(ProfileField(name, edges=tuple(float(e) for e in range(10, 100, 10))) for name in ("home_x", "home_y"))
_COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
_OPTIONAL = ("TX_FRAUD", "TX_FRAUD_SCENARIO")


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    file = _file(path)
    part = Part(file, read_columns(file, _COLUMNS, _OPTIONAL), 1)
    user, rows = part.words("CUSTOMER_ID", True), len(part)
    kind = none_given(rows)
    if part.has("TX_FRAUD_SCENARIO"):
        scenario = part.numbers("TX_FRAUD_SCENARIO", np.int64)
        part.require("TX_FRAUD_SCENARIO", (scenario >= 0) & (scenario <= 3), "a scenario 0, 1, 2 or 3")
        kind = Words((scenario - 1).astype(np.int32), SCENARIOS)
    table = TransactionTable(
        transaction_id=part.numbers("TRANSACTION_ID", np.int64).astype(np.str_),
        user=user,
        merchant=part.words("TERMINAL_ID", True),
        category=none_given(rows),
        channel=none_given(rows),
        currency=none_given(rows),
        amount=part.amounts("TX_AMOUNT"),
        time_ms=part.times("TX_DATETIME", "iso"),
        label=part.labels("TX_FRAUD") if part.has("TX_FRAUD") else np.full(rows, -1, np.int8),
        fraud_kind=kind,
        profile=_homes(file.parent, user),
    )
    yield from period.parts(table, batch_rows)


def _file(path: Path) -> Path:
    try:
        return locate(path, ("transactions.parquet", "transactions.csv"))
    except InvalidFile:
        if any(path.glob("????-??-??.pkl")):
            remedy = f"run `panther data convert-fdh {path} transactions.parquet` and point at that file"
            fail(path, "expected transactions.parquet, found the handbook's pickles, which are not unpickled", remedy)
        raise


def _homes(folder: Path, user: Words) -> dict[str, list[Any]]:
    """Home coordinates by customer, if the customers' file is there."""
    file = beside(folder, "customers")
    if file is None:
        return {}
    names = {"home_x": "x_customer_id", "home_y": "y_customer_id"}
    part = Part(file, read_columns(file, ("CUSTOMER_ID", *names.values())), 1)
    customers = part.text("CUSTOMER_ID").to_pylist()
    homes = {name: dict(zip(customers, part.numbers(column).tolist(), strict=True)) for name, column in names.items()}
    return {name: [home.get(word) for word in user.words] for name, home in homes.items()}
