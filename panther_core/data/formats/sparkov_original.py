"""Sparkov's own files: those that the simulator writes, and Kaggle's (fraudTrain.csv, fraudTest.csv).

The simulator writes a file for each profile and range of customers, columns separated by `|`, every row with all the
facts of its customer; files of profiles without customers hold only the header. Kaggle's files hold the same columns
separated by commas, with `trans_date_trans_time` in place of three columns of time. The time is the date and clock as
written, taken for UTC, since Kaggle's `unix_time` is seven years off. Files of both kinds are held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.data.formats.columns import Part, least, same
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import Dialect, csv_header, fail, stream_columns
from panther_core.data.table import TransactionTable, Words
from panther_core.data.table_concat import concat

_KAGGLE = ("fraudTrain.csv", "fraudTest.csv")
_FACTS = ("gender", "state", "job", "city_pop", "dob")
_COLUMNS = ("cc_num", *_FACTS, "trans_num", "category", "amt", "is_fraud", "merchant")
_MARK = "trans_num"  # the simulator's and Kaggle's files have this column, other files in their folders do not


def files(path: Path, compact: Sequence[str]) -> list[Path]:
    """The original files at `path`: the file itself, or those of a folder. None for a folder with the compact form."""
    if path.is_file():
        candidates = [path]
    elif any((path / name).is_file() or (path / f"{name}.gz").is_file() for name in compact):
        return []
    else:
        candidates = [f for name in _KAGGLE for f in (path / name, path / f"{name}.gz") if f.is_file()]
        candidates = candidates or sorted([*path.glob("*.csv"), *path.glob("*.csv.gz")])
    return [
        file for file in candidates if ".csv" in file.suffixes and _MARK in csv_header(file, Dialect(_separator(file)))
    ]


def tables(originals: list[Path], period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """All these files as one log in time order, in tables of `batch_rows` rows."""
    found = [_table(Part(file, data, 1)) for file in originals if (data := _read(file)) is not None]
    if not found:
        fail(originals[0], "expected transactions, found no row", "check that the files are complete")
    table = concat(found)
    facts = dict(table.profile)
    age = ages(np.array(facts.pop("born"), "M8[D]"), least(table.user, table.time_ms))
    table = replace(table, profile={"age": age.tolist(), **facts})
    yield from period.parts(table, batch_rows)


def _separator(file: Path) -> str:
    return "|" if len(csv_header(file)) == 1 else ","


def _read(file: Path) -> pa.Table | None:
    clock = ("trans_date", "trans_time") if _separator(file) == "|" else ("trans_date_trans_time",)
    batches = list(stream_columns(file, (*_COLUMNS, *clock), dialect=Dialect(_separator(file))))
    return pa.Table.from_batches(batches) if batches else None


def _table(part: Part) -> TransactionTable:
    if part.has("trans_date"):
        text = pc.binary_join_element_wise(part.text("trans_date"), part.text("trans_time"), " ")
        part.data = part.data.append_column("trans_date_trans_time", text)
    user, category = part.words("cc_num", True), part.words("category", True)
    return TransactionTable(
        transaction_id=np.asarray(part.text("trans_num").to_pylist(), np.str_),
        user=user,
        merchant=part.words("merchant", True, shop),
        category=category,
        channel=channel(category),
        currency=same("USD", len(part)),
        amount=part.amounts("amt"),
        time_ms=part.times("trans_date_trans_time", "iso"),
        label=part.labels("is_fraud"),
        country=same("US", len(part)),
        profile=_facts(part, user),
    )


def _facts(part: Part, user: Words) -> dict[str, list[Any]]:
    """Facts by user word, from the user's first row."""
    first = least(user, np.arange(len(part)))
    words = {name: part.text(name).take(pa.array(first)).to_pylist() for name in ("gender", "state", "job")}
    population = part.numbers("city_pop", np.int64)[first].tolist()
    return {**words, "city_population": population, "born": part.days("dob")[first].tolist()}


def shop(name: str) -> str:
    """The merchant's name without the prefix that every name has."""
    return name.removeprefix("fraud_")


def channel(category: Words) -> Words:
    """Online or till by the ending of the category; not given for another ending."""
    places = np.array([{"net": 0, "pos": 1}.get(word.rpartition("_")[2], -1) for word in category.words], np.int32)
    return Words(places[category.index], ("online", "till"))


def ages(born: NDArray[np.datetime64], at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Age in whole years of somebody `born` on a day, at a time (epoch ms)."""
    then = at_ms.astype("M8[ms]").astype("M8[D]")
    months = (then.astype("M8[M]") - born.astype("M8[M]")).astype(np.int64)
    early = (months % 12 == 0) & (_day(then) < _day(born))  # the month of birth has come, the day has not
    out: NDArray[np.int64] = months // 12 - early
    return out


def _day(date: NDArray[np.datetime64]) -> NDArray[np.int64]:
    out: NDArray[np.int64] = (date - date.astype("M8[M]").astype("M8[D]")).astype(np.int64)
    return out
