"""Sparkov simulator: the files that the simulator writes, Kaggle's two files made with it, and a compact form.

`path` is a folder (or a file in it) with one of
- `transactions.parquet` (or .csv), customer_id, unix_time, category, amt, is_fraud, merchant, and `customers.csv.gz`
  for profiles: the compact form, read here;
- `fraudTrain.csv`, `fraudTest.csv`, or the simulator's own `adults_2550_male_rural_000-199.csv`, ...: see
  panther_core.data.formats.sparkov_original. There the user is the card number and the id is `trans_num`.

The channel follows from the ending of the category (`_net` online, `_pos` till); with another ending it is not given.
The prefix `fraud_`, which the simulator puts before every merchant's name, fraud or not, is removed. Rows of the
compact form have no id, so the id is `s` and the row's number. Currency USD, country US. `age` is the customer's age in
whole years at the first transaction in the file. The whole file is held in memory and sorted by time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.data.formats import sparkov_original
from panther_core.data.formats.columns import Part, beside, least, same
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import fail, locate, read_columns
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words

_STATES = (
    "AK", "AL", "AR", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "HI", "IA", "ID", "IL", "IN", "KS", "KY", "LA",
    "MA", "MD", "ME", "MI", "MN", "MO", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY", "OH", "OK", "OR",
    "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VT", "WA", "WI", "WV", "WY",
)  # fmt: skip
PROFILE = (
    ProfileField("age", edges=(25, 35, 45, 55, 65, 75)),
    ProfileField("gender", values=("F", "M")),
    ProfileField("state", values=_STATES),
    ProfileField("city_population", edges=(1_000, 5_000, 20_000, 50_000, 100_000, 500_000, 1_000_000)),
)
COMPACT = ("transactions.parquet", "transactions.csv")
_COLUMNS = ("customer_id", "unix_time", "category", "amt", "merchant")
_PEOPLE = ("customer_id", "gender", "state", "city_pop", "job", "dob")


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    if originals := sparkov_original.files(path, COMPACT):
        yield from sparkov_original.tables(originals, period, batch_rows)
        return
    file = locate(path, COMPACT)
    part = Part(file, read_columns(file, _COLUMNS, ("is_fraud",)), 1)
    user, category = part.words("customer_id", True), part.words("category", True)
    time_ms, rows = part.times("unix_time", "s"), len(part)
    table = TransactionTable(
        transaction_id=np.char.add("s", np.arange(1, rows + 1).astype(np.str_)),
        user=user,
        merchant=part.words("merchant", True, sparkov_original.shop),
        category=category,
        channel=sparkov_original.channel(category),
        currency=same("USD", rows),
        amount=part.amounts("amt"),
        time_ms=time_ms,
        label=part.labels("is_fraud") if part.has("is_fraud") else np.full(rows, -1, np.int8),
        country=same("US", rows),
        profile=_people(file.parent, user, time_ms),
    )
    yield from period.parts(table, batch_rows)


def _people(folder: Path, user: Words, time_ms: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Facts by user word, if the customers' file is there."""
    file = beside(folder, "customers")
    if file is None:
        return {}
    part = Part(file, read_columns(file, _PEOPLE), 1)
    row_of = {word: i for i, word in enumerate(part.text("customer_id").to_pylist())}
    missing = [word for word in user.words if word not in row_of]
    if missing:
        fail(part.path, f"expected a row for customer {missing[0]!r}", "use the customers' file of the same simulation")
    rows = np.array([row_of[word] for word in user.words])
    age = sparkov_original.ages(part.days("dob")[rows], least(user, time_ms))
    facts = {name: part.text(name).to_pylist() for name in ("gender", "state", "job")}
    population = part.numbers("city_pop", np.int64)
    return {
        "age": age.tolist(),
        **{name: [values[row] for row in rows] for name, values in facts.items()},
        "city_population": population[rows].tolist(),
    }
