"""Fraud Detection Handbook, simulated transactions: `transactions.parquet` (or .csv) with the handbook's columns.

The handbook's own files are daily pickles: fdh_convert makes that one file of them.
User = customer, merchant = terminal; there is no category, channel, currency, country or device. `customers.csv.gz`,
if it lies beside, gives the home coordinates (0..100) as profile. The scenarios of TX_FRAUD_SCENARIO are fraud kinds.
Fits in memory: rows are sorted by time if they are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part, fail, locate, none_given, read_columns
from panther_core.data.formats.period import Period
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
    time_ms = part.times("TX_DATETIME", "iso")
    rows = period.rows(time_ms)
    rows = rows[np.argsort(time_ms[rows], kind="stable")]
    numbers = part.numbers("TRANSACTION_ID", np.int64)
    user, merchant = part.words("CUSTOMER_ID", True), part.words("TERMINAL_ID", True)
    amount, kind = part.amounts("TX_AMOUNT"), none_given(len(part))
    label = part.labels("TX_FRAUD") if part.has("TX_FRAUD") else np.full(len(part), -1, np.int8)
    if part.has("TX_FRAUD_SCENARIO"):
        scenario = part.numbers("TX_FRAUD_SCENARIO", np.int64)
        part.require("TX_FRAUD_SCENARIO", (scenario >= 0) & (scenario <= 3), "a scenario 0, 1, 2 or 3")
        kind = Words((scenario - 1).astype(np.int32), SCENARIOS)
    profile = _homes(file.parent, user)
    for first in range(0, len(rows), batch_rows):
        cut = rows[first : first + batch_rows]
        empty = none_given(len(cut))
        yield TransactionTable(
            transaction_id=numbers[cut].astype(np.str_),
            user=Words(user.index[cut], user.words),
            merchant=Words(merchant.index[cut], merchant.words),
            category=empty,
            channel=empty,
            currency=empty,
            amount=amount[cut],
            time_ms=time_ms[cut],
            label=label[cut],
            fraud_kind=Words(kind.index[cut], kind.words),
            profile=profile,
        )


def _file(path: Path) -> Path:
    try:
        return locate(path, ("transactions.parquet", "transactions.csv"))
    except InvalidFile:
        if any(path.glob("????-??-??.pkl")):
            remedy = f"run `panther data convert-fdh {path} transactions.parquet` and point at that file"
            fail(path, "expected transactions.parquet, found the handbook's pickles, which are not unpickled", remedy)
        raise


def _homes(folder: Path, user: Words) -> dict[str, list[Any]]:
    """Home coordinates by customer, if the file is there."""
    found = [folder / name for name in ("customers.csv.gz", "customers.csv") if (folder / name).is_file()]
    if not found:
        return {}
    names = {"home_x": "x_customer_id", "home_y": "y_customer_id"}
    part = Part(found[0], read_columns(found[0], ("CUSTOMER_ID", *names.values())), 1)
    customers = part.text("CUSTOMER_ID").to_pylist()
    homes = {name: dict(zip(customers, part.numbers(column).tolist(), strict=True)) for name, column in names.items()}
    return {name: [home.get(word) for word in user.words] for name, home in homes.items()}
