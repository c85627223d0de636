"""Checks and converts columns of files. Every failure is an InvalidFile that names the file, the row (counted from 1,
without the header line), the column and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.data.events import MAX_AMOUNT, MAX_TIME_MS, MIN_TIME_MS
from panther_core.data.formats.reading import fail
from panther_core.data.table import Words


class Part:
    """Some rows of a file, and conversions of its columns that can name a wrong row. `first_row` counts from 1."""

    def __init__(self, path: Path, data: pa.RecordBatch | pa.Table, first_row: int) -> None:
        self.path, self.data, self.first_row = path, data, first_row

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def has(self, name: str) -> bool:
        """Whether the file has this optional column."""
        return name in self.data.schema.names

    def array(self, name: str) -> pa.Array:
        """The column as one array, dictionaries unpacked."""
        column = self.data.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column

    def text(self, name: str) -> pa.Array:
        """The column as text."""
        column = self.array(name)
        if pa.types.is_string(column.type):
            return column
        try:
            return pc.cast(column, pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            fail(self.path, f"expected words or numbers, got {column.type}", *_PLAIN, column=name)

    def words(self, name: str, required: bool = False, edit: Callable[[str], str] | None = None) -> Words:
        """The column factorised. Null and "" count as not given, which is an error if `required`. `edit` changes each
        word, once a word and not once a row."""
        coded = self.text(name).dictionary_encode()
        words = coded.dictionary.to_pylist()
        index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        if "" in words:
            empty = words.index("")
            index = np.where(index == empty, -1, index - (index > empty)).astype(np.int32)
            del words[empty]
        if required:
            self.require(name, index >= 0, "a value")
        return Words(index, tuple(edit(word) for word in words) if edit else tuple(words))

    def numbers(self, name: str, dtype: type[np.number[Any]] = np.float64, strip: str = "") -> NDArray[Any]:
        """The column as numbers; `strip` is removed first ("$")."""
        column = self.array(name)
        if strip:
            column = pc.replace_substring(self.text(name), strip, "")
        target = pa.from_numpy_dtype(dtype)
        try:
            cast = pc.cast(column, target)
        except pa.ArrowInvalid:
            self._blame(name, column, target)
        except pa.ArrowNotImplementedError:
            fail(self.path, f"expected numbers or times, got {column.type}", *_PLAIN, column=name)
        self.require(name, ~cast.is_null().to_numpy(zero_copy_only=False), "a number")
        out: NDArray[Any] = cast.to_numpy(zero_copy_only=False)
        return out

    def _blame(self, name: str, column: pa.Array, target: pa.DataType) -> NoReturn:
        """Raise InvalidFile for the first row that does not convert. Slow, but the file is refused anyway."""
        for i in range(len(column)):
            try:
                pc.cast(column[i : i + 1], target)
            except pa.ArrowInvalid:
                fail(self.path, f"expected {_noun(target)}, got {column[i].as_py()!r}", *_FIX, self.first_row + i, name)
        fail(self.path, f"expected {_noun(target)}s", "check the column's type", None, name)

    def require(self, name: str, good: NDArray[np.bool_], expected: str) -> None:
        """Raise InvalidFile at the first row that is not good."""
        if not good.all():
            i = int(np.argmin(good))
            fail(
                self.path, f"expected {expected}, got {self.array(name)[i].as_py()!r}", *_FIX, self.first_row + i, name
            )

    def amounts(self, name: str, strip: str = "", negative: bool = False) -> NDArray[np.float64]:
        """Amounts, checked against the schema's largest; below 0 only if `negative`, for refunds."""
        amount = self.numbers(name, strip=strip).astype(np.float64)
        low = -MAX_AMOUNT if negative else 0.0
        self.require(name, (amount >= low) & (amount <= MAX_AMOUNT), f"{low:g} <= amount <= {MAX_AMOUNT:g}")
        return amount

    def times(self, name: str, unit: str) -> NDArray[np.int64]:
        """Epoch ms; `unit` is "iso" (text or a timestamp column; no offset means UTC), "s" or "ms"."""
        column = self.array(name)
        self.require(name, ~column.is_null().to_numpy(zero_copy_only=False), "a time")
        if pa.types.is_timestamp(column.type):
            ms = pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64()).to_numpy(zero_copy_only=False)
        elif unit == "iso":
            ms = self._iso(name, self.text(name))
        else:
            ms = np.round(self.numbers(name) * (1000 if unit == "s" else 1)).astype(np.int64)
        self.require(name, (ms >= MIN_TIME_MS) & (ms <= MAX_TIME_MS), f"a time after 2000-01-01, before 2100 ({unit})")
        return np.asarray(ms, np.int64)

    def days(self, name: str) -> NDArray[np.datetime64]:
        """The column as dates."""
        text = self.text(name)
        try:
            cast = pc.cast(text, pa.date32())
        except pa.ArrowInvalid:
            self._blame(name, text, pa.date32())
        self.require(name, ~cast.is_null().to_numpy(zero_copy_only=False), "a date")
        return np.asarray(cast.to_numpy(zero_copy_only=False), "M8[D]")

    def _iso(self, name: str, text: pa.Array) -> NDArray[np.int64]:
        zoned = pc.match_substring_regex(text, r"(Z|[+-]\d\d:?\d\d)$")
        for pattern in (zoned, pc.invert(zoned)):  # arrow converts a column only if all of it has offsets, or none
            if pc.all(pattern, min_count=0).as_py():
                target = pa.timestamp("us", "UTC") if pattern is zoned else pa.timestamp("us")
                try:
                    us = pc.cast(pc.cast(text, target), pa.int64()).to_numpy(zero_copy_only=False)
                    return np.asarray(us // 1000, np.int64)
                except pa.ArrowInvalid:
                    self._blame(name, text, target)
        has = np.asarray(zoned.to_numpy(zero_copy_only=False), np.bool_)
        row = int(np.argmax(has != has[0]))
        problem = (
            f"expected a time {'with' if has[0] else 'without'} an offset like those before, got {text[row].as_py()!r}"
        )
        fail(self.path, problem, *_FIX, self.first_row + row, name)

    def labels(self, name: str, fraud: Sequence[str] = ("1",), honest: Sequence[str] = ("0",)) -> NDArray[np.int8]:
        """1 where the word is among `fraud`, 0 where among `honest`, -1 where not given; else InvalidFile."""
        words = self.words(name)
        code = {**{w.lower(): 1 for w in fraud}, **{w.lower(): 0 for w in honest}}
        label = words.map(np.array([code.get(w.lower(), -2) for w in words.words], np.int8), missing=-1)
        self.require(name, label != -2, f"one of {', '.join([*fraud, *honest])}")
        return label.astype(np.int8)


_FIX = ("correct or remove that row",)
_PLAIN = ("name a column of plain values, or write the file anew",)


def _noun(target: pa.DataType) -> str:
    if pa.types.is_timestamp(target):
        return "an ISO 8601 time"
    if pa.types.is_date(target):
        return "a date like 1969-03-12"
    return "a whole number" if pa.types.is_integer(target) else "a number"


def none_given(rows: int) -> Words:
    """A words column without any value, for a column that the format lacks."""
    return Words(np.full(rows, -1, np.int32), ())


def same(word: str, rows: int) -> Words:
    """A words column that has the same word in every row."""
    return Words(np.zeros(rows, np.int32), (word,))


def least(user: Words, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Smallest value of each user's rows, by user word; the largest integer for a user without rows."""
    out = np.full(len(user.words), np.iinfo(np.int64).max)
    np.minimum.at(out, user.index, values)
    return out


def beside(folder: Path, name: str) -> Path | None:
    """`name`.csv.gz or `name`.csv in the folder, a file that a data set may have or lack."""
    return next((file for file in (folder / f"{name}.csv.gz", folder / f"{name}.csv") if file.is_file()), None)
