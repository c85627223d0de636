"""Joining tables gives what one table would have been."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat


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


def test_nothing_is_an_error() -> None:
    with pytest.raises(BadInput, match="got none"):
        concat([])
