"""Joining tables gives what one table would have been."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.data.table_rows import from_transactions


def test_parts_join_to_the_whole(table: TransactionTable) -> None:
    cut = len(table) // 3
    whole = concat([table.take(slice(0, cut)), table.take(slice(cut, None))])
    assert list(whole.rows()) == list(table.rows())
    np.testing.assert_array_equal(whole.label, table.label)


def test_parts_in_another_order_are_sorted_by_time(table: TransactionTable) -> None:
    cut = len(table) // 3
    whole = concat([table.take(slice(cut, None)), table.take(slice(0, cut))])
    np.testing.assert_array_equal(whole.time_ms, table.time_ms)


def test_a_single_table_is_sorted_too(table: TransactionTable) -> None:
    backwards = table.take(np.arange(len(table))[::-1])
    np.testing.assert_array_equal(concat([backwards]).time_ms, table.time_ms)


def test_rows_keep_their_own_profiles(table: TransactionTable) -> None:
    cut, rows = len(table) // 3, list(table.rows())
    rows = [msgspec.structs.replace(t, profile={"age": i % 3} if i % 2 else {"city": "x"}) for i, t in enumerate(rows)]
    first, second = from_transactions(rows[:cut]), from_transactions(rows[cut:])
    assert list(concat([first, second]).rows()) == rows
    plain = table.take(slice(0, cut))
    assert list(concat([plain, second]).rows()) == [*plain.rows(), *rows[cut:]]
    bare = replace(plain, profile={})
    assert [t.profile or None for t in concat([bare, second]).rows()] == [None] * cut + [t.profile for t in rows[cut:]]


def test_nothing_is_an_error() -> None:
    with pytest.raises(BadInput, match="got none"):
        concat([])
