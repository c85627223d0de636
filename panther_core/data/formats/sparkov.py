"""Sparkov simulator: what the simulator writes, the two files of it that Kaggle has, and a compact form.

`path` is a folder (or a file in it) with one of
- `transactions.parquet` (or .csv), customer_id, unix_time, category, amt, is_fraud, merchant, and `customers.csv.gz`
  for profiles: the compact form, read here;
- `fraudTrain.csv`, `fraudTest.csv`, or the simulator's own `adults_2550_male_rural_000-199.csv`, ...: see
  panther_core.data.formats.sparkov_original. There the user is the card number and the id is `trans_num`.

The channel is what the category's ending says (`_net` online, `_pos` till), else not given. The prefix `fraud_` that
the simulator puts before every merchant's name, fraud or not, is removed. Compact rows have no id: it is `s` + row.
Currency USD, country US. `age` is the age in whole years at the customer's first transaction in the file.
Fits in memory: rows are sorted by time if they are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.data.formats import sparkov_original
from panther_core.data.formats.columns import Part, fail, locate, read_columns, same
from panther_core.data.formats.period import Period
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
    time_ms = part.times("unix_time", "s")
    user, category = part.words("customer_id", True), part.words("category", True)
    merchant = part.words("merchant", True, sparkov_original.shop)
    amount = part.amounts("amt")
    label = part.labels("is_fraud") if part.has("is_fraud") else np.full(len(part), -1, np.int8)
    profile = _people(file.parent, user, time_ms)
    channel = sparkov_original.channel(category)
    rows = period.rows(time_ms)
    rows = rows[np.argsort(time_ms[rows], kind="stable")]

    def cut(column: Words, at: NDArray[np.intp]) -> Words:
        return Words(column.index[at], column.words)

    for first in range(0, len(rows), batch_rows):
        at = rows[first : first + batch_rows]
        yield TransactionTable(
            transaction_id=np.char.add("s", (at + 1).astype(np.str_)),
            user=cut(user, at),
            merchant=cut(merchant, at),
            category=cut(category, at),
            channel=cut(channel, at),
            currency=same("USD", len(at)),
            amount=amount[at],
            time_ms=time_ms[at],
            label=label[at],
            country=same("US", len(at)),
            profile=profile,
        )


def _people(folder: Path, user: Words, time_ms: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Facts by user word, if the customers' file is there."""
    found = [folder / name for name in ("customers.csv.gz", "customers.csv") if (folder / name).is_file()]
    if not found:
        return {}
    part = Part(found[0], read_columns(found[0], _PEOPLE), 1)
    row_of = {word: i for i, word in enumerate(part.text("customer_id").to_pylist())}
    missing = [word for word in user.words if word not in row_of]
    if missing:
        fail(part.path, f"expected a row for customer {missing[0]!r}", "use the customers' file of the same simulation")
    rows = np.array([row_of[word] for word in user.words])
    first_ms = np.full(len(user.words), np.iinfo(np.int64).max)
    np.minimum.at(first_ms, user.index, time_ms)
    age = sparkov_original.ages(part.days("dob")[rows], first_ms)
    facts = {name: part.text(name).to_pylist() for name in ("gender", "state", "job")}
    population = part.numbers("city_pop", np.int64)
    return {
        "age": age.tolist(),
        **{name: [values[row] for row in rows] for name, values in facts.items()},
        "city_population": population[rows].tolist(),
    }
