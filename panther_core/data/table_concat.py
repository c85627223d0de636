"""Joins the tables that a reader gives in batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable, Words


class Numbering:
    """Numbers for the words of a column that comes in batches: a row takes four bytes, and a word is held once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, part: Words) -> NDArray[np.int32]:
        """The number of each row's word; -1 where none is given."""
        places = [self._numbers.setdefault(word, len(self._numbers)) for word in part.words]
        return part.map(np.array(places, np.int32), missing=-1)

    @property
    def words(self) -> tuple[str, ...]:
        """All words so far, by their numbers."""
        return tuple(self._numbers)


_COLUMNS = ("user", "merchant", "category", "channel", "currency", "country", "device", "fraud_kind")


def concat(tables: list[TransactionTable]) -> TransactionTable:
    """One table in time order (stable). A user's profile has the first known value of each fact; in tables with a
    profile for each row, every row keeps its own.

    Raises BadInput where the tables hold no transaction.
    """
    tables = [table for table in tables if len(table)]
    if not tables:
        raise BadInput("expected transactions, got none: check the path and the first and last day")
    known = [table.seller for table in tables]
    seller = None if any(part is None for part in known) else np.concatenate([p for p in known if p is not None])
    if len(tables) == 1:
        return _in_order(tables[0])
    words: dict[str, Any] = {name: _join([getattr(table, name) for table in tables], tables) for name in _COLUMNS}
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("transaction_id", "amount", "time_ms", "label")
    }
    names = {name: None for table in tables for name in table.profile}
    if all(table.profile_row is None for table in tables):
        facts = {name: _facts(name, tables, words["user"].words) for name in names}
        return _in_order(replace(tables[0], **words, **arrays, profile=facts, seller=seller))
    counts = [_profiles(table) for table in tables]
    begin = np.cumsum([0, *counts])
    facts = {
        name: [value for table, n in zip(tables, counts, strict=True) for value in table.profile.get(name, [None] * n)]
        for name in names
    }
    places = [table.profile_places + at for table, at in zip(tables, begin.tolist(), strict=False)]
    row = np.concatenate(places).astype(np.int32)
    return _in_order(replace(tables[0], **words, **arrays, profile=facts, profile_row=row, seller=seller))


def _profiles(table: TransactionTable) -> int:
    """Number of profiles in a table: the length of the lists of its facts, or what its rows point at."""
    known = next(iter(table.profile.values()), None)
    return len(known) if known is not None else int(table.profile_places.max()) + 1


def _in_order(table: TransactionTable) -> TransactionTable:
    if (np.diff(table.time_ms) < 0).any():
        return table.take(np.argsort(table.time_ms, kind="stable"))
    return table


def _join(columns: list[Words | None], tables: list[TransactionTable]) -> Words | None:
    if all(column is None for column in columns):
        return None
    numbering = Numbering()
    parts = [
        np.full(len(table), -1, np.int32) if column is None else numbering.of(column)
        for column, table in zip(columns, tables, strict=True)
    ]
    return Words(np.concatenate(parts), numbering.words)


def _facts(name: str, tables: list[TransactionTable], users: tuple[str, ...]) -> list[Any]:
    known: dict[str, Any] = {}
    for table in tables:
        for user, value in zip(table.user.words, table.profile.get(name, []), strict=False):
            if value is not None:
                known.setdefault(user, value)
    return [known.get(user) for user in users]
