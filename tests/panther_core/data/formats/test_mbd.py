"""MBD-mini: one row a transaction in Parquet files by fold."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.events import Transaction
from panther_core.data.formats import read
from tests import DATA

FOLDER = DATA / "mbd"


def rows(path: Path) -> list[Transaction]:
    return [row for table in read("mbd", path) for row in table.rows()]


def test_mbd() -> None:
    before, december, march, tie = rows(FOLDER)
    assert (before.transaction_id, before.merchant_id, before.merchant_category) == ("m2", "unknown", "1|12|")
    assert before.event_time == 1640995199000
    assert (december.transaction_id, december.merchant_id, december.merchant_category) == ("m3", "7/30", "2|4|7")
    assert (december.user_id, december.channel, december.currency) == ("b" * 64, "3", "2")
    assert (march.transaction_id, march.amount, tie.transaction_id, tie.amount) == ("m1", 0.25, "m4", 0.125)
    folder = FOLDER / "detail" / "trx"
    assert rows(folder) == rows(FOLDER)
    assert [row.transaction_id for row in rows(next((folder / "fold=1").iterdir()))] == ["m1", "m2"]


def test_mbd_says_what_is_wrong(tmp_path: Path) -> None:
    source = next((FOLDER / "detail" / "trx" / "fold=0").iterdir())
    table = pyarrow.parquet.read_table(source, partitioning=None)
    lists = pyarrow.array([[None], [None]], pyarrow.list_(pyarrow.timestamp("us")))
    for name, column, message in (
        ("amount", pyarrow.array([1.0, None]), r"x\.parquet, row 2, column 'amount': expected a number, got None"),
        ("client_id", pyarrow.array(["a", None]), r"x\.parquet, row 2, column 'client_id': expected a value, got None"),
        ("event_time", pyarrow.array(["2022-01-01", "soon"]), r"row 2, column 'event_time': expected an ISO 8601 time"),
        ("event_time", lists, r"x\.parquet: expected one row a transaction, got lists.*give the folder detail/trx"),
    ):
        wrong = table.set_column(table.schema.get_field_index(name), name, column)
        pyarrow.parquet.write_table(wrong, tmp_path / "x.parquet")
        with pytest.raises(InvalidFile, match=message):
            rows(tmp_path)
