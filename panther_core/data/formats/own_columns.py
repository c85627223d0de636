"""Amounts, currencies and labels of an own file, as people write them."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.data.events import MAX_AMOUNT
from panther_core.data.formats.columns import same
from panther_core.data.formats.mapping import HELP
from panther_core.data.formats.own_times import OwnTimes
from panther_core.data.formats.reading import fail
from panther_core.data.table import Words


class OwnPart(OwnTimes):
    """Some rows of an own file, and conversions of all its columns by its mapping."""

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
        """1 where the word is among `fraud`, 0 where among `honest`, -1 where among `unknown`; where none is given what
        `others` says."""
        mapping, words = self._mapping, self.words(name)
        code = {
            word.lower(): value
            for value, of in ((1, mapping.fraud), (0, mapping.honest), (-1, mapping.unknown))
            for word in of
        }
        others = 0 if mapping.others == "honest" else -1
        label = words.map(np.array([code.get(word.lower(), -2) for word in words.words], np.int8), missing=others)
        self._refuse(
            name,
            label == -2,
            f"expected a label out of {', '.join(code)}",
            "name the words in `fraud`, `honest` and `unknown`",
        )
        return label.astype(np.int8)
