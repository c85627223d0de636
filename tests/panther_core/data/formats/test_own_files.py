"""Files as people have them: each kind is read by a mapping, or refused with a line that leads out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.formats import read_table
from panther_core.data.table import TransactionTable

COLUMNS = """
[columns]
user_id = "u"
merchant_id = "m"
amount = "a"
event_time = "t"
"""


def log(folder: Path, text: str | bytes, mapping: str = "", columns: str = COLUMNS, name: str = "x.csv") -> Path:
    """A file with its mapping, in a folder."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    data = "" if "data =" in mapping else f'data = "{name}"\n'
    (folder / "mapping.toml").write_text(f"{data}{mapping}\n{columns}")
    return folder


def one(folder: Path, text: str | bytes, mapping: str = "", columns: str = COLUMNS) -> TransactionTable:
    return read_table("csv", log(folder, text, mapping, columns))


def utc(text: str) -> int:
    return int(np.datetime64(text, "ms").astype(np.int64))


@pytest.mark.parametrize(
    ("time", "mapping", "expected"),
    [
        ("1714550400", 'time = "s"', "2024-05-01T08:00:00"),
        ("1714550400123", 'time = "ms"', "2024-05-01T08:00:00.123"),
        ("1714550400123456", 'time = "us"', "2024-05-01T08:00:00.123"),
        ("1714550400123456789", 'time = "ns"', "2024-05-01T08:00:00.123"),
        ("25", 'time = "h"\nstart = "2024-01-01"', "2024-01-02T01:00:00"),
        ("1.5", 'time = "d"\nstart = "2024-01-01T12:00:00+02:00"', "2024-01-02T22:00:00"),
        ("1e+05", 'time = "s"\nstart = "2013-09-01"', "2013-09-02T03:46:40"),
        ("2024-05-01 08:00:00.745232+00", "", "2024-05-01T08:00:00.745"),
        ("2024-05-01 08:00:00+02", "", "2024-05-01T06:00:00"),
        ("2024-05-01T08:00:00.123456789Z", "", "2024-05-01T08:00:00.123"),
        ("2024-05-01T08:00:00", 'zone = "Europe/Berlin"', "2024-05-01T06:00:00"),
        ("2024-05-01", "", "2024-05-01T00:00:00"),
        ("31.12.2024 23:59", 'time = "%d.%m.%Y %H:%M"\nzone = "Europe/Berlin"', "2024-12-31T22:59:00"),
        ("05/01/24 8:00 PM -0400", 'time = "%m/%d/%y %I:%M %p %z"', "2024-05-02T00:00:00"),
    ],
)
def test_a_time_in_any_form(tmp_path: Path, time: str, mapping: str, expected: str) -> None:
    assert one(tmp_path, f"u,m,a,t\nx,y,1,{time}\n", mapping).time_ms.tolist() == [utc(expected)]


def test_a_local_time_that_was_twice_is_the_earlier_one_and_one_that_never_was_the_later(tmp_path: Path) -> None:
    text = "u,m,a,t\nx,y,1,2024-03-31T02:30:00\nx,y,1,2024-10-27T02:30:00\n"
    got = one(tmp_path, text, 'zone = "Europe/Berlin"').time_ms.tolist()
    assert got == [utc("2024-03-31T01:00:00"), utc("2024-10-27T00:30:00")]


def test_a_bank_s_export(tmp_path: Path) -> None:
    """Decimal comma, date and time in two columns, refunds, another encoding, an id of two columns."""
    text = (
        "Buchungstag;Uhrzeit;Konto;Karte;Händler;Betrag;Betrag\n"
        "31.12.2024;23:59;K1;1;Bäcker;1.234,56;0,00\n"
        "01.01.2025;08:15;K1;2;Laden 2;-12,50;0,00\n"
        "02.01.2025;09:00;;;Laden 1;7;1,10\n"
    ).encode("latin-1")
    columns = """
[columns]
user_id = ["Konto", "Karte"]
merchant_id = "Händler"
amount = "Betrag#1"
event_time = ["Buchungstag", "Uhrzeit"]
"""
    style = 'separator = ";"\nencoding = "latin-1"\ndecimal = ","\nthousands = "."\ntime = "%d.%m.%Y %H:%M"\n'
    with pytest.raises(InvalidFile, match=r"row 3, column 'Konto, Karte': expected a value, got nothing"):
        one(tmp_path, text, f'{style}negative = "absolute"', columns)
    text = text.replace(b";;;Laden", b";K1;;Laden")
    table = one(tmp_path, text, f'{style}negative = "absolute"', columns)
    assert table.amount.tolist() == [1234.56, 12.5, 7]
    assert table.merchant[0] == "Bäcker"
    assert [table.user[i] for i in range(3)] == ["K1|1", "K1|2", "K1|"]
    skipped = one(tmp_path, text, f'{style}negative = "skip"', columns)
    assert skipped.amount.tolist() == [1234.56, 7]
    assert skipped.transaction_id.tolist() == ["r1", "r3"]
    with pytest.raises(InvalidFile, match=r'row 2, .*negative = "absolute"'):
        one(tmp_path, text, style, columns)
    second = one(tmp_path, text, style, columns.replace("#1", "#2"))
    assert second.amount.tolist() == [0, 0, 1.1]
    with pytest.raises(InvalidFile, match="expected one such column, got 2: name one of Betrag#1, Betrag#2"):
        one(tmp_path, text, style, columns.replace("#1", ""))


@pytest.mark.parametrize(
    ("amounts", "mapping", "message"),
    [
        (["1.234", "7.000"], "", r"what the point in amounts like '1\.234' means: .*decimal = \"\.\".*thousands"),
        (["1.234", "7,00"], "", r"row 2, column 'a': expected a number with '\.' before its fraction, got '7,00'"),
        (["1.234", "7,00"], 'decimal = ","', r"row 1, column 'a': .*',' before its fraction, got '1\.234'"),
        (["1,234", "7.00"], "", r"row 1, column 'a': .* got '1,234': set `decimal` and `thousands`"),
        (["12,34.5"], 'decimal = "."\nthousands = ","', r"'\.' before its fraction and ',' between thousands"),
        (["1 EUR", "2 EUR"], "", r"got '1 EUR' \(so are 2 of 2 rows\): set `decimal`.*docs/data\.md.*$"),
        (["nan"], "", r"got 'nan'"),
        (["1e10"], "", r"expected an amount of at most 1e\+09"),
    ],
)
def test_no_amount_is_a_thousandfold_in_silence(tmp_path: Path, amounts: list[str], mapping: str, message: str) -> None:
    rows = "".join(f'x,y,"{amount}",2024-05-01\n' for amount in amounts)
    with pytest.raises(InvalidFile, match=message):
        one(tmp_path, f"u,m,a,t\n{rows}", mapping)


@pytest.mark.parametrize(
    ("amounts", "mapping", "expected"),
    [
        (["1.234", "7.000"], 'decimal = "."', [1.234, 7]),
        (["1.234", "7.000"], 'decimal = ","\nthousands = "."', [1234, 7000]),
        (["1'234.50", "-0.5", ".25"], 'thousands = "\'"\nnegative = "absolute"', [1234.5, 0.5, 0.25]),
        (["1.234", "7.5"], "", [1.234, 7.5]),
        ([" 12.50 ", "+3", "1e2"], "", [12.5, 3, 100]),
    ],
)
def test_amounts_as_they_are_written(tmp_path: Path, amounts: list[str], mapping: str, expected: list[float]) -> None:
    rows = "".join(f'x,y,"{amount}",2024-05-01\n' for amount in amounts)
    assert one(tmp_path, f"u,m,a,t\n{rows}", mapping).amount.tolist() == expected


def test_words_for_nothing_and_for_labels(tmp_path: Path) -> None:
    columns = COLUMNS + 'label = "f"\nmerchant_category = "c"\n'
    text = "u,m,a,t,f,c\nx,y,1,2024-05-01,t,\\N\nx,y,1,2024-05-01,f,food\nx,y,1,2024-05-01,?,n/a\nx,y,1,2024-05-01,,\n"
    style = 'fraud = ["t"]\nhonest = ["F"]\nunknown = ["?"]\nnulls = ["\\\\N", "n/a"]'
    table = one(tmp_path, text, style, columns)
    assert table.label.tolist() == [1, 0, -1, -1]
    assert [table.category[i] for i in range(4)] == [None, "food", None, None]
    with pytest.raises(InvalidFile, match=r"row 1, column 'f': expected a label out of 1, .*got 't'.*`unknown`"):
        one(tmp_path, text, "", columns)
    with pytest.raises(InvalidFile, match=r"row 2, column 'u': expected a value"):
        one(tmp_path, "u,m,a,t\nx,y,1,2024-05-01\nNULL,y,1,2024-05-01\n")
    with pytest.raises(InvalidFile, match="got 't' twice"):
        one(tmp_path, text, 'fraud = ["t"]\nhonest = ["T"]', columns)


def test_one_currency_or_rates(tmp_path: Path) -> None:
    columns = COLUMNS + 'currency = "c"\n'
    text = "u,m,a,t,c\nx,y,10,2024-05-01,EUR\nx,y,10,2024-05-01,USD\n"
    with pytest.raises(InvalidFile, match=r"row 2, column 'c': expected one currency, EUR .*'USD': give \[rates\]"):
        one(tmp_path, text, "", columns)
    table = one(tmp_path, text, "", columns + "[rates]\nEUR = 1\nUSD = 0.9\n")
    assert table.amount.tolist() == [10, 9]
    assert [table.currency[i] for i in range(2)] == ["EUR", "EUR"]
    with pytest.raises(InvalidFile, match=r"expected a currency out of EUR, got 'USD': add it to \[rates\]"):
        one(tmp_path, text, "", columns + "[rates]\nEUR = 1\n")
    parts = tmp_path / "parts"
    parts.mkdir()
    for currency in ("EUR", "USD"):
        (parts / f"{currency}.csv").write_text(f"u,m,a,t,c\nx,y,10,2024-05-01,{currency}\n")
    with pytest.raises(InvalidFile, match="one currency in all parts, got EUR, USD"):
        read_table("csv", log(tmp_path, "", 'data = "parts"', columns))


def test_a_folder_of_parts_and_a_pattern(tmp_path: Path) -> None:
    parts = tmp_path / "p" / "year=2024"
    parts.mkdir(parents=True)
    (tmp_path / "p" / "_SUCCESS").touch()
    (parts / "part-0.csv").write_text("u,m,a,t\nx,y,2,2024-05-02\n")
    (parts / "part-1.csv").write_text("u,m,a,t\n")
    (parts / "part-2.csv.gz").write_bytes(gzip.compress(b"u,m,a,t\nx,y,1,2024-05-01\nz,y,3,2024-05-03\n"))
    for data in ("p", "p/**/part-*"):
        table = read_table("csv", log(tmp_path, "", f'data = "{data}"'))
        assert table.amount.tolist() == [1, 2, 3]
        assert table.transaction_id.tolist() == ["r2", "r1", "r3"]
    with pytest.raises(InvalidFile, match="found none: correct `data`"):
        read_table("csv", log(tmp_path, "", 'data = "q/*.csv"'))
    for part in parts.glob("part-*"):
        part.unlink()
    (parts / "part-1.csv").write_text("u,m,a,t\n")
    with pytest.raises(InvalidFile, match="expected transactions, found no row"):
        read_table("csv", log(tmp_path, "", 'data = "p"'))


def test_json_lines_with_objects_in_objects(tmp_path: Path) -> None:
    text = (
        '{"id": 7, "card": {"user": "x"}, "m": "y", "a": 1.5, "t": 1714550400}\n'
        '{"id": 8, "card": {"user": "z"}, "m": "y", "a": 2, "t": 1714550401, "fraud": true}\n'
    )
    columns = COLUMNS.replace('"u"', '"card.user"') + 'transaction_id = "id"\nlabel = "fraud"\n'
    folder = log(tmp_path, text, 'time = "s"', columns, "x.jsonl")
    table = read_table("csv", folder)
    assert table.transaction_id.tolist() == ["7", "8"]
    assert [table.user[i] for i in range(2)] == ["x", "z"]
    assert (table.amount.tolist(), table.label.tolist()) == ([1.5, 2], [-1, 1])
    log(tmp_path, text + "{broken\n", 'time = "s"', columns, "x.jsonl")
    with pytest.raises(InvalidFile, match=r"x\.jsonl: JSON parse error"):
        read_table("csv", folder)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ('time = "h"', "expected `start` beside time = 'h'"),
        ('time = "fortnight"', r'expected `time` to be "iso", one of s, ms, us, ns, h, d, or a format'),
        ('time = "d"\nstart = "soon"', "expected `start` to be a day like 2017-12-01"),
        ('zone = "Berlin"', r'expected `zone` to be a time zone like "Europe/Berlin", got .Berlin.'),
        ('thousands = "."', "expected other signs for `decimal` and `thousands`"),
        ('customer_id = "u"', r"unknown field `customer_id`.*docs/data\.md"),
        ('time = "s"', r"row 1, column 't': expected a number, got '2024-05-01': or set `time` = \"iso\""),
        ('time = "%d.%m.%Y"', r"expected a time like '%d\.%m\.%Y', got '2024-05-01': correct `time`"),
    ],
)
def test_a_mapping_that_cannot_be(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        one(tmp_path, "u,m,a,t\nx,y,1,2024-05-01\n", mapping)


def test_advice_is_on_the_mapping_where_all_rows_are_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as all_of_them:
        one(tmp_path, "u,m,a,t\nx,y,1,01.03.2026\nx,y,1,02.03.2026\n")
    assert "correct or remove" not in str(all_of_them.value)
    assert "set `time` to its format" in str(all_of_them.value)
    with pytest.raises(InvalidFile, match=r"got '01\.03\.2026': .*; or correct or remove that row"):
        one(tmp_path, "u,m,a,t\nx,y,1,2026-03-01\nx,y,1,01.03.2026\n")


def test_parquet_parts_are_read_the_same(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(
        pyarrow.table({"u": ["x"], "m": ["y"], "a": [1.25], "t": [1714550400]}), tmp_path / "part-0.snappy.parquet"
    )
    table = read_table("csv", log(tmp_path, "", 'data = "part-*.parquet"\ntime = "s"'))
    assert (table.amount.tolist(), table.time_ms.tolist()) == ([1.25], [1714550400000])
