"""Fit a tokenizer on files of any size, in two passes: buckets, words and risk levels first, then the counts.

Files larger than memory can be fitted: between the passes 25 bytes of each row are held (amount, time, merchant,
label). The time split and the rule about labels are those of training (trainer.fit.dataset): the first `fit_share` of
the transactions fits buckets, words and tokens; risk levels see only labels of the first `risk_share`, and of those
only labels that had matured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import SCALES, AttributeSchema, Scale, fit_schema
from panther_core.data.table import TransactionTable, Words
from panther_core.data.token_report import TokenReport, report
from panther_core.data.vocabulary import Combinations, Vocabulary, radix_of

T = TypeVar("T", bound=np.generic)
Tables = Callable[[], Iterable[TransactionTable]]


@dataclass(frozen=True)
class TokenOptions:
    """Settings of a fit. Raises BadInput."""

    top_k: int = 60_000
    coverage: float = 1.0
    amount_buckets: int = 20
    amount_scale: Scale = "quantile"
    fit_share: float = 0.7
    risk_share: float = 0.3
    label_delay_ms: int = 7 * DAY_MS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("top_k", 1, 10_000_000),
            ("coverage", 1e-6, 1),
            ("amount_buckets", 2, 253),
            ("fit_share", 0.01, 1),
            ("risk_share", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"expected {low:g} <= {name} <= {high:g}, got {getattr(self, name)}")
        if self.amount_scale not in SCALES:
            raise BadInput(f"expected amount_scale to be one of {', '.join(SCALES)}, got {self.amount_scale!r}")


@dataclass(frozen=True)
class Fitted:
    """A fitted tokenizer and the report on it."""

    schema: AttributeSchema
    vocabulary: Vocabulary
    report: TokenReport


def fit_tokens(tables: Tables, options: TokenOptions) -> Fitted:
    """Fit on the tables that `tables()` gives, in time order; `tables` is called twice.

    Raises BadInput where the tables hold no transaction.
    """
    first = _Pass()
    for table in tables():
        first.add(table)
    if not first.rows:
        raise BadInput("expected transactions, got none: check the path and the first and last day")
    until = max(1, round(first.rows * options.fit_share))
    schema = first.schema(until, options)
    risk = first.risk(schema, options)
    del first
    radix = radix_of(schema)
    early: list[Combinations] = []
    later: list[Combinations] = []
    row = 0
    for table in tables():
        codes = _codes(table, schema, risk)
        cut = min(max(until - row, 0), len(table))
        early = [Combinations.total([*early, Combinations.of(codes[:cut], radix)], radix)]
        later = [Combinations.total([*later, Combinations.of(codes[cut:], radix)], radix)]
        row += len(table)
    fitted = early[0]
    vocabulary = Vocabulary(keys=fitted.keys(options.top_k, options.coverage), radix=radix)
    return Fitted(schema, vocabulary, report(schema, vocabulary, fitted, later[0]))


def _codes(table: TransactionTable, schema: AttributeSchema, risk: MerchantRisk) -> NDArray[np.void]:
    return np.ascontiguousarray(replace(table, profile={}).events(schema, risk)["code"])


@dataclass
class _Pass:
    """Data that the first pass keeps: some columns of each row, and the row at which each word was first seen."""

    rows: int = 0
    amounts: list[NDArray[np.float64]] = field(default_factory=list)
    times: list[NDArray[np.int64]] = field(default_factory=list)
    merchants: list[NDArray[np.uint64]] = field(default_factory=list)
    labels: list[NDArray[np.int8]] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)

    def add(self, table: TransactionTable) -> None:
        """Keep the columns and the new words of one table."""
        self.amounts.append(table.amount)
        self.times.append(table.time_ms)
        self.labels.append(table.label)
        self.merchants.append(table.merchant_hashes())
        for column, seen in ((table.category, self.categories), (table.channel, self.channels)):
            _note(column, self.rows, seen)
        self.rows += len(table)

    def schema(self, until: int, options: TokenOptions) -> AttributeSchema:
        """The schema, fitted on the rows before `until`."""
        categories, channels = (
            [word for word, row in seen.items() if row < until] for seen in (self.categories, self.channels)
        )
        amounts = _first(self.amounts, until)
        return fit_schema(amounts, categories, channels, (), options.amount_buckets, options.amount_scale)

    def risk(self, schema: AttributeSchema, options: TokenOptions) -> MerchantRisk:
        """Risk levels, fitted on the labels that had matured by the first row after `risk_share` of the rows."""
        known = end = int(self.rows * options.risk_share)
        times = _first(self.times, end + 1)
        if end < self.rows:
            known = int(np.searchsorted(times[:end], times[end] - options.label_delay_ms, side="right"))
        return MerchantRisk.fit(_first(self.merchants, known), _first(self.labels, known), schema.risk_levels)


def _first(parts: list[NDArray[T]], rows: int) -> NDArray[T]:
    """The first rows of the parts as one array; the list is emptied, so that rows are not held twice for long."""
    needed = int(np.searchsorted(np.cumsum([len(part) for part in parts]), rows)) + 1
    out = np.concatenate(parts[:needed])[:rows]
    parts.clear()
    return out


def _note(column: Words, row: int, seen: dict[str, int]) -> None:
    places, at = np.unique(column.index, return_index=True)
    for place, first in zip(places.tolist(), at.tolist(), strict=True):
        if place >= 0:
            seen.setdefault(column.words[place], row + first)
