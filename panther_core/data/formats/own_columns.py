"""Columns of an own file as people write them: decimal commas, times in many forms, words for nothing, joined ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.events import MAX_AMOUNT, MAX_TIME_MS, MIN_TIME_MS
from panther_core.data.formats.columns import Part, same
from panther_core.data.formats.mapping import HELP, UNITS_MS, Mapping, Name
from panther_core.data.formats.reading import fail
from panther_core.data.table import Words

_JOIN = "|"  # between the parts of an id of several columns
_SHORT_OFFSET = r"([+-]\d\d)$"
_FINE = r"(\.\d{6})\d+"


class WrongRows(InvalidFile):
    """Rows whose column cannot be read: what was expected, in how many rows, the first one and what it has."""

    def __init__(self, text: str, what: str, count: int, row: int, got: str) -> None:
        super().__init__(text)
        self.what, self.count, self.row, self.got = what, count, row, got


class OwnPart(Part):
    """Some rows of an own file, and conversions by its mapping."""

    def __init__(self, path: Path, data: pa.RecordBatch | pa.Table, first_row: int, mapping: Mapping) -> None:
        super().__init__(path, data, first_row)
        self._mapping = mapping
        self._nulls = pa.array([*mapping.nulls, ""], pa.string())

    def array(self, name: str) -> pa.Array:
        """As Part.array; words of `nulls` are null."""
        column = super().array(name)
        if pa.types.is_large_string(column.type):
            column = pc.cast(column, pa.string())
        if pa.types.is_string(column.type):
            return pc.if_else(pc.is_in(column, value_set=self._nulls), pa.scalar(None, pa.string()), column)
        return column

    def joined(self, name: Name) -> pa.Array:
        """Text of a column, or of several with a sign between them: null where all parts are."""
        if isinstance(name, str):
            return self.text(name)
        parts = [self.text(part) for part in name]
        joined = pc.binary_join_element_wise(*(pc.fill_null(part, "") for part in parts), _JOIN)
        empty = parts[0].is_null()
        for part in parts[1:]:
            empty = pc.and_(empty, part.is_null())
        return pc.if_else(empty, pa.scalar(None, pa.string()), joined)

    def word_column(self, name: Name) -> Words:
        """As Part.words, of one column or of several joined."""
        if isinstance(name, str):
            return self.words(name)
        coded = self.joined(name).dictionary_encode()
        index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        return Words(index, tuple(coded.dictionary.to_pylist()))

    def required_words(self, name: Name) -> Words:
        """As `word_column`; raises InvalidFile at the first row without a value."""
        words = self.word_column(name)
        shown = name if isinstance(name, str) else ", ".join(name)
        column = self.array(name) if isinstance(name, str) else self.joined(name)
        self._refuse_column(shown, column, words.index < 0, "expected a value", None)
        return words

    def own_amounts(self, name: str) -> NDArray[np.float64]:
        """Amounts, with the mapping's `decimal` and `thousands`; NaN for those below 0 that are left out."""
        mapping, column = self._mapping, self.array(name)
        if pa.types.is_string(column.type):
            amount = self._written_amounts(name, pc.utf8_trim_whitespace(column))
        else:
            amount = self.numbers(name).astype(np.float64)
        if mapping.negative == "skip":
            amount = np.where(amount < 0, np.nan, amount)
        elif mapping.negative == "absolute":
            amount = np.abs(amount)
        self._refuse(
            name,
            amount < 0,
            "expected an amount of 0 or more",
            'say what a refund is: negative = "absolute" (it counts with its size) or "skip" (it is left out)',
        )
        self._refuse(name, amount > MAX_AMOUNT, f"expected an amount of at most {MAX_AMOUNT:g}", None)
        return amount

    def _written_amounts(self, name: str, text: pa.Array) -> NDArray[np.float64]:
        mapping = self._mapping
        decimal, thousands = re.escape(mapping.decimal or "."), re.escape(mapping.thousands)
        whole = rf"(\d+|\d{{1,3}}({thousands}\d{{3}})+)" if thousands else r"\d+"
        good = pc.match_substring_regex(text, rf"^[+-]?({whole}({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?$")
        bad = ~np.asarray(pc.fill_null(good, False).to_numpy(zero_copy_only=False), np.bool_)
        wanted = f"expected a number with {mapping.decimal or '.'!r} before its fraction" + (
            f" and {mapping.thousands!r} between thousands" if thousands else ""
        )
        self._refuse(name, bad, wanted, 'set `decimal` and `thousands`, as decimal = "," and thousands = "."')
        if mapping.decimal is None and self.first_row == 1:
            self._require_plain(name, text)
        plain = pc.replace_substring(text, mapping.thousands, "") if thousands else text
        plain = pc.replace_substring(plain, mapping.decimal, ".") if mapping.decimal == "," else plain
        return np.asarray(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False), np.float64)

    def _require_plain(self, name: str, text: pa.Array) -> None:
        """Refuse a column whose points all stand before three digits: thousands, or three places of a fraction."""
        pointed = text.filter(pc.match_substring(text, "."))
        if len(pointed) and pc.all(pc.match_substring_regex(pointed, r"^[+-]?\d{1,3}(\.\d{3})+$")).as_py():
            fail(
                self.path,
                f"expected to know what the point in amounts like {pointed[0].as_py()!r} means: every one has three "
                "digits behind it",
                f'say decimal = "." (a fraction), or decimal = "," and thousands = "." (a thousandfold); {HELP}',
                None,
                name,
            )

    def in_one_currency(
        self, name: str, amount: NDArray[np.float64], currency: Words
    ) -> tuple[NDArray[np.float64], Words]:
        """Amounts times the mapping's `rates`, and their currency then: the one whose rate is 1, if there is one."""
        rates = self._mapping.rates
        if not rates:
            self._refuse(
                name,
                (currency.index > 0) & (len(currency.words) > 1),
                f"expected one currency, {currency.words[0] if currency.words else ''} here",
                "give [rates] with the worth of one unit of each, as USD = 0.92 and EUR = 1",
            )
            return amount, currency
        known = np.array([rates.get(word, np.nan) for word in currency.words])
        rate = currency.map(known, missing=np.nan)
        self._refuse(name, np.isnan(rate), f"expected a currency out of {', '.join(rates)}", "add it to [rates]")
        base = [word for word in rates if rates[word] == 1]
        return amount * rate, same(base[0], len(self)) if len(base) == 1 else currency

    def own_labels(self, name: str) -> NDArray[np.int8]:
        """1 where the word is among `fraud`, 0 where among `honest`, -1 where among `unknown` or not given."""
        mapping, words = self._mapping, self.words(name)
        code = {
            word.lower(): value
            for value, of in ((1, mapping.fraud), (0, mapping.honest), (-1, mapping.unknown))
            for word in of
        }
        label = words.map(np.array([code.get(word.lower(), -2) for word in words.words], np.int8), missing=-1)
        self._refuse(
            name,
            label == -2,
            f"expected a label out of {', '.join(code)}",
            "name the words in `fraud`, `honest` and `unknown`",
        )
        return label.astype(np.int8)

    def require_given(self, name: Name, text: pa.Array, what: str) -> None:
        """Raise InvalidFile at the first row without a value."""
        shown = name if isinstance(name, str) else ", ".join(name)
        self._refuse_column(shown, text, np.asarray(text.is_null()), f"expected {what}", None)

    def own_times(self, name: Name) -> NDArray[np.int64]:
        """Epoch ms, by the mapping's `time`, `start` and `zone`; several columns are joined by a blank."""
        mapping = self._mapping
        column = self.array(name) if isinstance(name, str) else self._date_and_time(name)
        shown = name if isinstance(name, str) else ", ".join(name)
        self._refuse_column(shown, column, np.asarray(column.is_null()), "expected a time", None)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            ms = self._stamps(column)
        elif mapping.time in UNITS_MS:
            ms = self._since_start(shown, column)
        elif mapping.time == "iso":
            ms = self._iso_times(shown, self.text(name) if isinstance(name, str) else column)
        else:
            ms = self._formatted(shown, self.text(name) if isinstance(name, str) else column)
        self._refuse_column(
            shown,
            column,
            (ms < MIN_TIME_MS) | (ms > MAX_TIME_MS),
            f"expected a time after 2000-01-01 and before 2100, by time = {mapping.time!r}",
            'set `time` to the unit of the numbers ("s", "ms", "us", "ns", "h", "d") and `start` to the moment of 0',
        )
        return ms

    def _date_and_time(self, names: Sequence[str]) -> pa.Array:
        parts = [self.text(name) for name in names]
        return pc.binary_join_element_wise(*parts, " ")

    def _stamps(self, column: pa.Array) -> NDArray[np.int64]:
        stamp = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        return self._from_zone(stamp)

    def _from_zone(self, stamp: pa.Array) -> NDArray[np.int64]:
        """Epoch ms of timestamps; those without an offset are of the mapping's zone (the earlier one, where clocks were
        set back; the later one, where they were set forward)."""
        if stamp.type.tz is None and self._mapping.zone != "UTC":
            stamp = pc.assume_timezone(stamp, self._mapping.zone, ambiguous="earliest", nonexistent="latest")
        us = pc.cast(stamp, pa.int64()).to_numpy(zero_copy_only=False)
        return np.asarray(us // 1000, np.int64)

    def _since_start(self, shown: str, column: pa.Array) -> NDArray[np.int64]:
        try:
            number = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bad = np.array([not _is_number(word) for word in column.to_pylist()])
            self._refuse_column(shown, column, bad, "expected a number", 'or set `time` = "iso" or a format')
            raise
        start = self._mapping.start
        since = np.round(number * UNITS_MS[self._mapping.time]).astype(np.int64)
        return np.asarray(since + (_start_ms(start) if start else 0), np.int64)

    def _iso_times(self, shown: str, text: pa.Array) -> NDArray[np.int64]:
        """ISO 8601; fractions are cut after microseconds, offsets may have two digits, rows may have any offset."""
        text = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), _FINE, r"\1")
        text = pc.replace_substring_regex(text, _SHORT_OFFSET, r"\1:00") if self._has_clock(text) else text
        zoned = np.asarray(
            pc.match_substring_regex(text, r"(Z|[+-]\d\d:?\d\d)$").to_numpy(zero_copy_only=False), np.bool_
        )
        out = np.zeros(len(text), np.int64)
        for rows, target in ((zoned, pa.timestamp("us", "UTC")), (~zoned, pa.timestamp("us"))):
            if rows.any():
                part = text.filter(pa.array(rows))
                try:
                    stamp = pc.cast(part, target)
                except pa.ArrowInvalid:
                    bad = rows & np.array([not _is_iso(word) for word in text.to_pylist()])
                    self._refuse_column(
                        shown,
                        text,
                        bad if bad.any() else rows,
                        "expected an ISO 8601 time",
                        'set `time` to its format, as "%d.%m.%Y %H:%M", or to the unit of a number',
                    )
                    raise
                out[rows] = self._from_zone(stamp)
        return out

    @staticmethod
    def _has_clock(text: pa.Array) -> bool:
        """Whether these are times of day, so that a sign and two digits at the end are an offset and not a day."""
        return bool(pc.any(pc.match_substring(text, ":")).as_py())

    def _formatted(self, shown: str, text: pa.Array) -> NDArray[np.int64]:
        coded = text.dictionary_encode()
        moments, bad = np.zeros(len(coded.dictionary), np.int64), np.zeros(len(coded.dictionary), np.bool_)
        zone = ZoneInfo(self._mapping.zone)
        for i, word in enumerate(coded.dictionary.to_pylist()):
            try:
                moment = datetime.strptime(word.strip(), self._mapping.time)
            except ValueError:
                bad[i] = True
            else:
                moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
                moments[i] = round(moment.timestamp() * 1000)
        at = coded.indices.to_numpy(zero_copy_only=False)
        self._refuse_column(shown, text, bad[at], f"expected a time like {self._mapping.time!r}", "correct `time`")
        return np.asarray(moments[at], np.int64)

    def _refuse(self, name: str, bad: NDArray[np.bool_], expected: str, advice: str | None) -> None:
        self._refuse_column(name, self.array(name), bad, expected, advice)

    def _refuse_column(
        self, shown: str, column: pa.Array, bad: NDArray[np.bool_], expected: str, advice: str | None
    ) -> None:
        """Raise InvalidFile at the first bad row, with advice on the mapping, and on the row if others are good."""
        bad = np.asarray(bad, np.bool_)
        if bad.any():
            at = int(np.argmax(bad))
            got = column[at].as_py()
            many = f" (so are {bad.sum():,} of {len(bad):,} rows)" if bad.sum() > 1 else ""
            problem = f"{expected}, got {'nothing' if got is None else repr(got)}{many}"
            place = self.first_row + at
            text = f"{self.path}, row {place}, column {shown!r}: {problem}: {self._remedy(bad, advice)}"
            raise WrongRows(text, f"{shown}: {expected}", int(bad.sum()), place, "nothing" if got is None else str(got))

    @staticmethod
    def _remedy(bad: NDArray[np.bool_], advice: str | None = None) -> str:
        """What to do: the mapping is wrong where most rows are so, a row where few are."""
        row = "correct or remove that row" if bad.sum() == 1 else "correct or remove these rows"
        told = f"{advice}; {HELP}" if advice else HELP
        if bad.all() and len(bad) > 1:
            return told
        return f"{told}; or {row}" if advice else f"{row}; {HELP}"


def _start_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _is_number(word: object) -> bool:
    try:
        float(str(word))
    except ValueError:
        return False
    return True


def _is_iso(word: str) -> bool:
    try:
        datetime.fromisoformat(word)
    except ValueError:
        return False
    return True
