"""Any file by a mapping: CSV and Parquet, and what it says about columns that are wrong."""

from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.events import Transaction
from panther_core.data.formats import read
from tests import DATA

FOLDER = DATA / "csv"


def rows(path: Path) -> list[Transaction]:
    return [row for table in read("csv", path) for row in table.rows()]


def test_a_mapping_says_which_column_is_what() -> None:
    [table] = read("csv", FOLDER)
    refund, food, lee = table.rows()
    assert (refund.transaction_id, refund.amount, refund.currency) == ("a-3", 5.5, "EUR")
    assert (food.merchant_category, lee.merchant_category) == ("food", "")
    assert lee.event_time == 1714633200000  # 09:00 at +02:00
    assert table.label.tolist() == [-1, 0, 1]
    assert lee.profile == {"age": "45"}


def test_streams_a_sorted_file_and_refuses_an_unsorted_one(tmp_path: Path) -> None:
    (tmp_path / "mapping.json").write_text(
        '{"data": "x.csv", "sorted": true, "time": "s",'
        ' "columns": {"user_id": "u", "merchant_id": "m", "amount": "a", "event_time": "t"}}'
    )
    (tmp_path / "x.csv").write_text("u,m,a,t\nu1,m1,1,1700000000\nu2,m1,2,1700000001\n")
    assert [row.transaction_id for row in rows(tmp_path)] == ["r1", "r2"]
    (tmp_path / "x.csv").write_text("u,m,a,t\nu1,m1,1,1700000001\nu2,m1,2,1700000000\n")
    with pytest.raises(InvalidFile, match=r"x\.csv, row 2, column 't': .*time order.*set sorted = false"):
        rows(tmp_path)


def test_with_another_separator(tmp_path: Path) -> None:
    text = (FOLDER / "payments.csv").read_text()
    (tmp_path / "payments.csv").write_text(text.replace(",", ";"))
    mapping = (FOLDER / "mapping.toml").read_text()
    (tmp_path / "mapping.toml").write_text('separator = ";"\n' + mapping)
    assert rows(tmp_path) == rows(FOLDER)
    (tmp_path / "mapping.toml").write_text('separator = ";;"\n' + mapping)
    with pytest.raises(InvalidFile, match=r"mapping\.toml: Expected `str` of length <= 1 - at `\$\.separator`"):
        rows(tmp_path)


def parquet_with_mapping(folder: Path, **columns: pyarrow.Array) -> Path:
    good = {
        "id": pyarrow.array(["a-1", "a-2"]).dictionary_encode(),
        "customer": pyarrow.array([7, 8], pyarrow.uint16()),
        "shop": pyarrow.array(["s1", "s2"], pyarrow.large_string()),
        "kind": pyarrow.array(["food", None]),
        "eur": pyarrow.array([Decimal("10.00"), Decimal("-5.50")], pyarrow.decimal128(9, 2)),
        "when": pyarrow.array([1714550400000, 1714636800000], pyarrow.timestamp("ms", "Europe/Berlin")),
        "fraud": pyarrow.array([True, None]),
        "customer_age": pyarrow.array([30.0, None]),
    }
    pyarrow.parquet.write_table(pyarrow.table(good | columns), folder / "payments.parquet")
    mapping = (FOLDER / "mapping.toml").read_text()
    (folder / "mapping.toml").write_text(mapping.replace("payments.csv", "payments.parquet"))
    return folder


def test_parquet_of_many_types(tmp_path: Path) -> None:
    [table] = read("csv", parquet_with_mapping(tmp_path))
    first, second = table.rows()
    assert (first.transaction_id, first.user_id, first.merchant_id, first.amount) == ("a-1", "7", "s1", 10.0)
    assert (first.event_time, second.amount, second.merchant_category) == (1714550400000, 5.5, "")
    assert table.label.tolist() == [1, -1]
    assert (first.profile, second.profile) == ({"age": 30.0}, {})


LISTS = pyarrow.array([[1], [2]])
PARQUET_WRONG = [
    ("eur", pyarrow.array(["1", "two"]), r"t, row 2, column 'eur': expected a number .*, got 'two': set `decimal`"),
    ("eur", pyarrow.array([1.0, None]), r"t, row 2, column 'eur': expected a number, got None"),
    ("eur", LISTS, r"t, column 'eur': expected numbers or times, got list<"),
    ("when", LISTS, r"t, column 'when': expected words or numbers, got list<"),
    ("when", pyarrow.array(["2024-05-01", "May"]), r"t, row 2, column 'when': expected an ISO 8601 time"),
    ("when", pyarrow.array([1714550400, 0], pyarrow.timestamp("s")), r"row 2, column 'when': expected a time after"),
    ("customer", LISTS, r"t, column 'customer': expected words or numbers, got list<"),
    ("customer", pyarrow.array(["kim", None]), r"t, row 2, column 'customer': expected a value, got nothing"),
    ("shop", pyarrow.array([b"\xff", b"s"]), r"t, column 'shop': expected words or numbers, got binary"),
    ("fraud", pyarrow.array(["no", "perhaps"]), r"t, row 2, column 'fraud': expected a label out of 1, true, yes"),
    ("id", pyarrow.array(["a-1", None]), r"t, row 2, column 'id': expected a transaction id, got nothing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "column", "message"), PARQUET_WRONG, ids=[f"{w[0]}-{w[1].type}" for w in PARQUET_WRONG]
)
def test_parquet_errors_name_file_row_and_column(
    name: str, column: pyarrow.Array, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidFile, match=message):
        rows(parquet_with_mapping(tmp_path, **{name: column}))


def test_seconds_given_as_milliseconds_are_noticed(tmp_path: Path) -> None:
    folder = parquet_with_mapping(tmp_path, when=pyarrow.array([1714550400000, 1714636800000]))
    mapping = folder / "mapping.toml"
    mapping.write_text('time = "s"\n' + mapping.read_text())
    with pytest.raises(
        InvalidFile, match=r"row 1, column 'when': expected a time after 2000-01-01 .*2 of 2 rows.*set `time`"
    ):
        rows(folder)


def test_says_what_is_wrong_with_a_mapping(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('data = "x.csv"\n[columns]\nuser_id = "u"\n')
    with pytest.raises(InvalidFile, match=r"mapping\.toml: .*missing required field `merchant_id`"):
        rows(tmp_path)
    mapping.write_text((FOLDER / "mapping.toml").read_text().replace("payments", "absent"))
    with pytest.raises(InvalidFile, match=r"expected a data file, .* in 'absent\.csv', beside"):
        rows(tmp_path)
    with pytest.raises(InvalidFile, match="not the data itself"):
        rows(FOLDER / "payments.csv")
