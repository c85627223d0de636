"""IBM credit card transactions (TabFormer's CCT): `credit_card_transactions-ibm_v2.csv`, or the file of user 0 alone.

How the columns are read:
- user is `User`, all cards together, since habits belong to a person. The card is the device (`0-4`: user 0, card 4).
- channel is `Use Chip` in short: swipe, chip, online. A negative amount is a refund: the amount is its size, and the
  channel becomes `swipe_refund`, ..., so that money coming back is not taken for money spent.
- category is the MCC, merchant the 64-bit `Merchant Name`. Currency USD.
- country is US where `Merchant State` has two letters, otherwise the country's name that it holds; not given online.
- `Errors?` is the answer of the authorisation, which comes after the decision: the column is not read, its rows are.
- times have no zone and are taken for UTC. Ids are user-card-row, the row counted in the file.
- the profile comes from sd254_users.csv and sd254_cards.csv, if they lie in the same folder: facts as of 2020, the year
  the data was made.

The file is in order of user and card, so it is sorted by time through temporary files (48 bytes a row: 1.2 GB for all
24 million rows); memory holds one part, then one month. `start` and `end` are applied before sorting, `limit` after.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.data.formats.columns import Part, none_given, same
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import locate, read_columns, stream_columns
from panther_core.data.formats.spool import by_time, regroup
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words

CHANNELS = ("swipe", "chip", "online")
PROFILE = (
    ProfileField("age", edges=(25, 35, 45, 55, 65, 75)),
    ProfileField("gender", values=("Female", "Male")),
    ProfileField("yearly_income", edges=(20_000, 30_000, 40_000, 50_000, 70_000, 100_000)),
    ProfileField("total_debt", edges=(1, 20_000, 50_000, 80_000, 120_000, 200_000)),
    ProfileField("fico_score", edges=(580, 640, 670, 700, 740, 800)),
    ProfileField("cards", edges=(2, 3, 4, 5)),
    ProfileField("card_types", values=("Credit", "Credit+Debit", "Debit")),  # prepaid debit counts as debit
)
_RECORD = np.dtype(
    [
        ("time_ms", "i8"),
        ("row", "i8"),
        ("merchant", "i8"),
        ("amount", "f8"),
        ("user", "i4"),
        ("category", "i4"),
        ("card", "i2"),
        ("country", "i2"),  # index in the reader's list of countries, -1 not given
        ("channel", "i1"),
        ("label", "i1"),
        ("spare", "V2"),
    ]
)
_REQUIRED = (
    "User", "Card", "Year", "Month", "Day", "Time", "Amount", "Use Chip", "Merchant Name", "Merchant State", "MCC",
)  # fmt: skip
_FILES = ("credit_card_transactions-ibm_v2.csv", "User0_credit_card_transactions.csv")


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    file = locate(path, _FILES)
    countries: dict[str, int] = {}
    facts = _people(file.parent)
    for records in regroup(by_time(_parse(file, period, countries)), batch_rows):
        yield _table(records, tuple(countries), facts)


def _parse(file: Path, period: Period, countries: dict[str, int]) -> Iterator[NDArray[np.void]]:
    first = 1
    for batch in stream_columns(file, _REQUIRED, ("Is Fraud?",)):
        part = Part(file, batch, first)
        first += len(part)
        out = np.zeros(len(part), _RECORD)
        out["time_ms"] = _time_ms(part)
        out["row"] = np.arange(part.first_row, first)
        for name, column, kind in (
            ("user", "User", np.int32),
            ("category", "MCC", np.int32),
            ("card", "Card", np.int16),
        ):
            out[name] = part.numbers(column, kind)
        out["merchant"] = part.numbers("Merchant Name", np.int64)
        amount = part.amounts("Amount", strip="$", negative=True)
        out["amount"] = np.abs(amount)
        out["channel"] = _channel(part) + len(CHANNELS) * (amount < 0)
        out["label"] = part.labels("Is Fraud?", ("yes",), ("no",)) if part.has("Is Fraud?") else -1
        state = part.words("Merchant State", edit=lambda word: "US" if len(word) == 2 else word)
        numbers = np.array([countries.setdefault(word, len(countries)) for word in state.words], np.int16)
        out["country"] = state.map(numbers, missing=-1)
        yield out[period.rows(out["time_ms"])]


def _time_ms(part: Part) -> NDArray[np.int64]:
    """Year, Month, Day and Time ("06:21") as epoch ms."""
    year, month, day = (part.numbers(name, np.int64) for name in ("Year", "Month", "Day"))
    part.require("Year", (year >= 1990) & (year < 2100), "a year from 1990 to 2099")
    part.require("Month", (month >= 1) & (month <= 12), "a month 1..12")
    months = (year * 12 + month - 1 - 1970 * 12).astype("M8[M]")
    date = months.astype("M8[D]") + (day - 1)
    part.require("Day", (day >= 1) & (date.astype("M8[M]") == months), "a day of that month")
    clock = part.words("Time", required=True)
    minutes = np.array([_minutes(word) for word in clock.words], np.int64)[clock.index]
    part.require("Time", minutes >= 0, "a time of day like 06:21")
    out: NDArray[np.int64] = date.astype("M8[ms]").astype(np.int64) + minutes * 60_000
    return out


def _minutes(word: str) -> int:
    hour, colon, minute = word.partition(":")
    good = colon and hour.isdecimal() and minute.isdecimal() and int(hour) < 24 and int(minute) < 60
    return int(hour) * 60 + int(minute) if good else -1


def _channel(part: Part) -> NDArray[np.int8]:
    words = part.words("Use Chip", required=True)
    known = {f"{name} transaction": i for i, name in enumerate(CHANNELS)}
    channel = np.array([known.get(word.lower(), -1) for word in words.words], np.int8)[words.index]
    part.require("Use Chip", channel >= 0, "Swipe, Chip or Online Transaction")
    return channel


def _table(records: NDArray[np.void], countries: tuple[str, ...], facts: dict[str, list[Any]]) -> TransactionTable:
    users, user = np.unique(records["user"], return_inverse=True)
    cards, card = np.unique(records["user"].astype(np.int64) * 1000 + records["card"], return_inverse=True)

    def factors(name: str) -> Words:
        values, index = np.unique(records[name], return_inverse=True)
        return Words(index.astype(np.int32), tuple(str(value) for value in values.tolist()))

    number = np.char.add(
        np.array([f"{c // 1000}-{c % 1000}-" for c in cards.tolist()])[card], records["row"].astype(np.str_)
    )
    return TransactionTable(
        transaction_id=number,
        user=Words(user.astype(np.int32), tuple(str(u) for u in users.tolist())),
        merchant=factors("merchant"),
        category=factors("category"),
        channel=Words(records["channel"].astype(np.int32), CHANNELS + tuple(f"{name}_refund" for name in CHANNELS)),
        currency=same("USD", len(records)),
        amount=records["amount"].copy(),
        time_ms=records["time_ms"].copy(),
        label=records["label"].copy(),
        country=Words(records["country"].astype(np.int32), countries) if countries else none_given(len(records)),
        device=Words(card.astype(np.int32), tuple(f"{c // 1000}-{c % 1000}" for c in cards.tolist())),
        profile={name: [values[u] if u < len(values) else None for u in users] for name, values in facts.items()},
    )


def _people(folder: Path) -> dict[str, list[Any]]:
    """Facts by user number: row i of the users' file describes user i."""

    def beside(name: str) -> Path | None:
        return next((folder / n for n in (f"{name}.csv", f"{name}.csv.gz") if (folder / n).is_file()), None)

    facts: dict[str, list[Any]] = {}
    if users := beside("sd254_users"):
        names = ("Current Age", "Gender", "Yearly Income - Person", "Total Debt", "FICO Score", "Num Credit Cards")
        part = Part(users, read_columns(users, names), 1)
        facts = {
            "age": part.numbers("Current Age", np.int64).tolist(),
            "gender": part.text("Gender").to_pylist(),
            "yearly_income": part.numbers("Yearly Income - Person", np.int64, "$").tolist(),
            "total_debt": part.numbers("Total Debt", np.int64, "$").tolist(),
            "fico_score": part.numbers("FICO Score", np.int64).tolist(),
            "cards": part.numbers("Num Credit Cards", np.int64).tolist(),
        }
    if cards := beside("sd254_cards"):
        part = Part(cards, read_columns(cards, ("User", "Card Type")), 1)
        user = part.numbers("User", np.int64)
        credit = pc.match_substring(part.text("Card Type"), "Credit").to_numpy(zero_copy_only=False)
        has = {True: set(user[credit].tolist()), False: set(user[~credit].tolist())}
        word = {(True, False): "Credit", (True, True): "Credit+Debit", (False, True): "Debit"}
        facts["card_types"] = [word.get((u in has[True], u in has[False])) for u in range(int(user.max()) + 1)]
    return facts
