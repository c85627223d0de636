"""What each reader makes of its own format, and what it says about files that are wrong."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.formats import read
from panther_core.data.formats.reading import read_columns
from panther_core.data.formats.spool import by_time, regroup
from tests import DATA


def rows(format: str, path: Path) -> list:  # type: ignore[type-arg]
    return [row for table in read(format, path) for row in table.rows()]


def test_fdh() -> None:
    [table] = read("fdh", DATA / "fdh")
    assert table.transaction_id.tolist() == ["1", "3", "2", "4", "5", "6"]  # sorted; ties in file order
    assert table.label.tolist() == [0, 0, 1, 1, 0, 1]
    assert table.fraud_kind is not None
    assert [table.fraud_kind[i] for i in (2, 3, 4, 5)] == [
        "amount_over_220", "terminal_compromised", None, "customer_compromised",
    ]  # fmt: skip
    first, *_, ninth, _, _ = table.rows()
    assert (first.user_id, first.merchant_id, first.event_time) == ("7", "901", 1522540860000)
    assert first.profile == {"home_x": 10.5, "home_y": 20.25}
    assert ninth.profile == {}  # customer 9 is not in the customers' file


@pytest.mark.parametrize("format", ["fdh", "sparkov"])
def test_parquet_and_gzip_equal_csv(format: str, tmp_path: Path) -> None:
    for folder in ("parquet", "gzip"):
        shutil.copytree(DATA / format, tmp_path / folder)
        (tmp_path / folder / "transactions.csv").unlink()
    source = DATA / format / "transactions.csv"
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(source), tmp_path / "parquet" / "transactions.parquet")
    (tmp_path / "gzip" / "transactions.csv.gz").write_bytes(gzip.compress(source.read_bytes()))
    assert rows(format, DATA / format) == rows(format, tmp_path / "parquet") == rows(format, tmp_path / "gzip")


def test_sparkov() -> None:
    ada, bob, home, later = rows("sparkov", DATA / "sparkov")
    assert (ada.transaction_id, ada.merchant_id, ada.channel, ada.currency) == ("s1", "Corner and Sons", "till", "USD")
    assert (bob.channel, home.channel) == ("online", "")
    # born on 2 January: a day short of 39 at the first transaction, and that is the age for all of them
    assert ada.profile == {"age": 38, "gender": "F", "state": "OH", "job": "Baker", "city_population": 1500}
    assert later.profile == ada.profile
    assert bob.profile is not None
    assert bob.profile["age"] == 29


def test_tabformer() -> None:
    bob, ada, online, refund, leap = rows("tabformer", DATA / "tabformer")
    assert (bob.transaction_id, bob.country, bob.channel, bob.merchant_category) == (
        "1-0-4",
        "Portugal",
        "swipe",
        "5814",
    )
    assert (ada.transaction_id, ada.country, ada.device) == ("0-0-1", "US", "0-0")
    assert (online.channel, online.country, online.device) == ("online", None, "0-1")
    assert (refund.channel, refund.amount, refund.merchant_id) == ("chip_refund", 20.0, "-987654321")
    assert leap.event_time == 1330473600000  # 2012-02-29
    assert ada.profile is not None
    assert bob.profile is not None
    assert ada.profile["card_types"] == "Credit+Debit"
    assert bob.profile == {
        "age": 29, "gender": "Male", "yearly_income": 32500, "total_debt": 0, "fico_score": 655, "cards": 1,
        "card_types": "Debit",
    }  # fmt: skip
    labels = np.concatenate([t.label for t in read("tabformer", DATA / "tabformer")])
    assert labels.tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("folder", ["sparkov_original", "sparkov_kaggle"])
def test_sparkov_original_files(folder: str) -> None:
    ada, bob, later = rows("sparkov", DATA / folder)
    # the time as written: the unix_time of Kaggle's files is seven years off
    assert (ada.transaction_id, ada.event_time) == ("aa000000000000000000000000000001", 1546300860000)
    assert (ada.user_id, ada.channel, ada.currency) == ("4000000000000001", "till", "USD")
    assert ada.merchant_id.startswith("Corner")
    assert (bob.merchant_id, bob.channel, bob.amount) == ("Web Bazaar", "online", 812.0)
    # as in the compact form: the age at the first transaction holds for all, over all files
    assert ada.profile == {"age": 38, "gender": "F", "state": "OH", "job": "Baker", "city_population": 1500}
    assert later.profile == ada.profile
    [table] = read("sparkov", DATA / folder)
    assert table.label.tolist() == [0, 1, 0]
    first = {"sparkov_original": "adults_2550_female_rural_0-1.csv", "sparkov_kaggle": "fraudTrain.csv"}[folder]
    assert rows("sparkov", DATA / folder / first)[0] == ada


ORIGINAL_WRONG = [
    ("kaggle", "fraudTest.csv", "4.99", "free", r"Test\.csv, row 1, column 'amt': expected a number, got 'free'"),
    ("kaggle", "fraudTrain.csv", "01:00:00", "25:00:00", r"Train\.csv, row 2, column 'trans_date_trans_time': exp"),
    ("original", "adults_2550_female_rural_0-1.csv", "|31.20|0|", "|31.20|2|", r"row 2, column 'is_fraud': exp"),
    ("original", "adults_2550_male_urban_0-1.csv", "1990-01-01", "1990", r"row 1, column 'dob': .*a date like"),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "name", "old", "new", "message"), ORIGINAL_WRONG)
def test_sparkov_original_errors(folder: str, name: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / f"sparkov_{folder}", tmp_path / "data")
    text = (tmp_path / "data" / name).read_text()
    assert old in text
    (tmp_path / "data" / name).write_text(text.replace(old, new))
    with pytest.raises(InvalidFile, match=message):
        rows("sparkov", tmp_path / "data")


WRONG = [
    ("fdh", "12.50", "twelve", r"row 1, column 'TX_AMOUNT': expected a number, got 'twelve': correct or remove"),
    ("fdh", "12.50", "-1", r"row 1, column 'TX_AMOUNT': expected 0 <= amount <= 1e\+09, got '-1'"),
    ("fdh", "12.50", "nan", r"row 1, column 'TX_AMOUNT': expected 0 <= amount"),
    ("fdh", "2018-04-01 09:30:15", "noon", r"row 2, column 'TX_DATETIME': expected an ISO 8601 time, got 'noon'"),
    ("fdh", "2018-04-01 09:30:15", "2018-04-01 09:30:15Z", r"row 2, column 'TX_DATETIME': expected a time without"),
    ("fdh", "2018-04-01 09:30:15", "1970-01-01 00:00:00", r"row 2, column 'TX_DATETIME': expected a time after 2000"),
    ("fdh", "7,901,", ",901,", r"row 1, column 'CUSTOMER_ID': expected a value, got ''"),
    ("fdh", "230.00,1,1", "230.00,2,1", r"row 2, column 'TX_FRAUD': expected one of 1, 0, got '2'"),
    ("fdh", "230.00,1,1", "230.00,1,9", r"row 2, column 'TX_FRAUD_SCENARIO': expected a scenario 0, 1, 2 or 3"),
    ("fdh", "TX_AMOUNT", "AMOUNT", r"expected a column 'TX_AMOUNT', got the columns TRANSACTION_ID, .*check"),
    ("fdh", "8,902,230.00,1,1", "8,902", r"transactions\.csv, row 2: Expected 7 columns, got 4"),
    ("sparkov", "1546304400", "soon", r"row 2, column 'unix_time': expected a number, got 'soon'"),
    ("sparkov", "2,1546304400", "77,1546304400", r"customers\.csv: expected a row for customer '77'"),
    ("tabformer", "$99.90", "99,90 EUR", r"row 3: Expected 15 columns, got 16"),
    ("tabformer", "$99.90", "EUR99.90", r"row 3, column 'Amount': expected a number, got 'EUR99.90'"),
    ("tabformer", "2012,2,29", "2011,2,29", r"row 5, column 'Day': expected a day of that month, got '29'"),
    ("tabformer", "23:59", "24:59", r"row 3, column 'Time': expected a time of day like 06:21, got '24:59'"),
    ("tabformer", "Online Transaction", "Fax", r"row 3, column 'Use Chip': expected Swipe, Chip or Online"),
    ("tabformer", ",Yes", ",Maybe", r"row 3, column 'Is Fraud\?': expected one of yes, no, got 'Maybe'"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "old", "new", "message"), WRONG, ids=[f"{w[0]}-{w[1]}-{w[2]}"[:40] for w in WRONG])
def test_errors_name_file_row_and_column(format: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / format, tmp_path / format)
    [file] = [*(tmp_path / format).glob("transactions.csv"), *(tmp_path / format).glob("credit_card*.csv")]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidFile, match=message) as caught:
        rows(format, tmp_path / format)
    assert str(tmp_path) in str(caught.value)


def test_text_that_is_not_utf_8_is_placed(tmp_path: Path) -> None:
    shutil.copytree(DATA / "fdh", tmp_path / "fdh")
    file = tmp_path / "fdh" / "transactions.csv"
    file.write_bytes(file.read_bytes().replace(b",7,901,", b",\xff,901,", 1))
    with pytest.raises(InvalidFile, match=r"row 1, column 'CUSTOMER_ID': .* invalid UTF8"):
        rows("fdh", tmp_path / "fdh")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "csv: expected a header line, got none: check that"),
        (b"a,b\r1,2\r", r"csv: expected a header line of UTF-8 text, .*lines ending in \\n"),
        ("a,b\n1,2\n".encode("utf-16"), "save it as UTF-8"),
        (b"a,b,a\n1,2,3\n", "csv, column 'a': expected one such column, got 2: name one of a#1, a#2"),
    ],
)
def test_headers_that_cannot_be_used(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InvalidFile, match=message):
        read_columns(tmp_path / "x.csv", ["a"], ["b"])


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress((DATA / "fdh" / "transactions.csv").read_bytes())
    for name, content in {
        "transactions.csv.gz": whole[:-20],
        "transactions.parquet": b"PAR1 nothing of the kind",
        "transactions.csv": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidFile, match=name):
            list(read("fdh", tmp_path / name))
    (tmp_path / "transactions.csv").write_bytes(
        (DATA / "fdh" / "transactions.csv").read_bytes().split(b"\n")[0] + b"\n"
    )
    with pytest.raises(InvalidFile, match="found no row"):
        list(read("fdh", tmp_path / "transactions.csv"))


def test_spool_sorts_stably_over_months_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rng = np.random.default_rng(1)
    records = np.zeros(5000, [("time_ms", "i8"), ("row", "i8")])
    records["time_ms"] = rng.integers(0, 200, 5000) * 86_400_000 * 3 - 10**10  # before 1970 too; many ties
    records["row"] = np.arange(5000)
    sorted_all = np.concatenate(list(regroup(by_time(np.split(records, 10)), 700)))
    assert (sorted_all == records[np.argsort(records["time_ms"], kind="stable")]).all()
    assert [len(part) for part in regroup(np.split(records, 10), 700)] == [700] * 7 + [100]
    assert [len(part) for part in regroup(np.split(records, 10), 100)] == [100] * 50
    assert len(np.concatenate(list(by_time([records[:0], records[:3], records[:0]])))) == 3
    unfinished = by_time([records])
    next(unfinished)
    unfinished.close()
    assert not list(tmp_path.iterdir())
