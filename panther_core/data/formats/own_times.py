"""Times of an own file: ISO 8601, numbers since a moment, any format; with an offset, or of a zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.base.times import iso_ms
from panther_core.data.events import MAX_TIME_MS, MIN_TIME_MS
from panther_core.data.formats.mapping import UNITS_MS, Name
from panther_core.data.formats.own_words import OwnWords

_SHORT_OFFSET = r"([+-]\d\d)$"
_FINE = r"(\.\d{6})\d+"


class OwnTimes(OwnWords):
    """Some rows of an own file, and its times."""

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
        return np.asarray(since + (iso_ms(start) if start else 0), np.int64)

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
