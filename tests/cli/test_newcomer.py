"""Mistakes that a newcomer makes with an own file: each has a line that leads out."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import PantherError

HEADER = "iban,shop,eur,when,bad"
ROWS = [f"DE{i % 7},m{i % 3},{10 + i}.50,2026-04-{1 + i % 28:02}T10:00:00+02:00,{int(i % 9 == 0)}" for i in range(60)]
MAPPING = """data = "x.csv"
[columns]
user_id = "iban"
merchant_id = "shop"
amount = "eur"
event_time = "when"
label = "bad"
"""


def said(*argv: str) -> str:
    """What the command has said, in one line; it must have failed."""
    done = CliRunner().invoke(app, argv)
    assert done.exit_code != 0
    assert done.exception is None or isinstance(done.exception, PantherError | SystemExit), done.exception
    text = done.output + (str(done.exception) if isinstance(done.exception, PantherError) else "")
    return " ".join(text.replace("│", " ").split())


def write(folder: Path, lines: list[str], mapping: str = MAPPING, encoding: str = "utf-8") -> Path:
    (folder / "x.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    (folder / "mapping.toml").write_text(mapping)
    return folder


def changed(old: str, new: str) -> list[str]:
    return [HEADER, *(row.replace(old, new) for row in ROWS)]


@pytest.mark.parametrize(
    ("lines", "mapping", "leads_out"),
    [
        pytest.param([HEADER.replace("eur", "euro"), *ROWS], MAPPING,
                     "expected a column 'eur', got the columns iban, shop, euro, when, bad", id="a column is renamed"),
        pytest.param([line.replace(",", ";") for line in (HEADER, *ROWS)], MAPPING,
                     'say which sign separates columns: separator = \';\'', id="semicolons"),
        pytest.param([HEADER, *(f'{r.split(",")[0]},m,"{10 + i},50",{r.split(",")[3]},0' for i, r in enumerate(ROWS))],
                     MAPPING, 'decimal = ","', id="decimal commas"),
        pytest.param(changed("2026-04-", "01.04.2026 10:"), MAPPING, '"%d.%m.%Y %H:%M"', id="German dates"),
        pytest.param([HEADER, *(r[:-1] + "N" for r in ROWS)], MAPPING, "`fraud`, `honest` and `unknown`",
                     id="other words for labels"),
        pytest.param([HEADER, *(r.replace(",1", ",-1", 1) for r in ROWS)], MAPPING,
                     'negative = "absolute"', id="refunds"),
        pytest.param([HEADER, *ROWS], MAPPING.replace("user_id", "customer_id"),
                     "one of user_id, merchant_id, amount, event_time", id="a key that the mapping has not"),
        pytest.param([HEADER, *ROWS], MAPPING.replace('"iban"', "iban"), "at line 3", id="a word without quotes"),
    ],
)  # fmt: skip
def test_a_mistake_in_file_or_mapping(tmp_path: Path, lines: list[str], mapping: str, leads_out: str) -> None:
    text = said("models", "train", "--data", str(write(tmp_path, lines, mapping)), "--out", str(tmp_path / "1"))
    assert leads_out in text
    assert "docs/data.md" in text


def test_the_data_itself_in_place_of_a_mapping(tmp_path: Path) -> None:
    file = write(tmp_path, [HEADER, *ROWS]) / "x.csv"
    text = said("models", "train", "--data", str(file), "--format", "csv", "--out", str(tmp_path / "1"))
    assert f"`panther init {file}` writes one" in text


def test_no_format(tmp_path: Path) -> None:
    text = said("replay", "--data", str(tmp_path / "x.csv"), "--model", "1")
    assert "csv for your own file" in text
    assert "panther init" in text


def test_a_wrong_format(tmp_path: Path) -> None:
    assert "(csv: your own file)" in said("models", "train", "--data", str(tmp_path), "--format", "xml")


def test_no_label_column(tmp_path: Path) -> None:
    folder = write(tmp_path, [HEADER, *ROWS], MAPPING.replace('label = "bad"\n', ""))
    text = said("models", "train", "--data", str(folder), "--out", str(tmp_path / "1"), "--preset", "tiny")
    assert "label" in text
    assert "docs/labels.md" in text


def test_latin_1(tmp_path: Path) -> None:
    folder = write(tmp_path, [HEADER, *(row.replace("m1", "Bäcker") for row in ROWS)], encoding="latin-1")
    assert 'encoding = "latin-1"' in said("models", "train", "--data", str(folder), "--out", str(tmp_path / "1"))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    folder = write(tmp_path, [HEADER, *ROWS], encoding="utf-8-sig")
    done = CliRunner().invoke(app, ["data", "check", str(folder), "--json"])
    assert '"rows": 60' in done.stdout


def test_a_log_that_is_too_short_says_how_many_days_it_takes(tmp_path: Path) -> None:
    text = said("models", "train", "--data", str(write(tmp_path, [HEADER, *ROWS[:9]])), "--out", str(tmp_path / "1"))
    assert "days" in text
    assert "longer log or a shorter label delay" in text


def test_a_time_that_is_none_on_the_command_line(tmp_path: Path) -> None:
    folder = write(tmp_path, [HEADER, *ROWS])
    text = said("explain", "DE1", "--data", str(folder), "--at", "10.04.2026")
    assert "--at" in text
    assert "event_time" not in text


def test_arguments_are_checked_before_the_data_is_read(tmp_path: Path) -> None:
    """Reading takes minutes: these folders hold nothing that could be read."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "manifest.json").write_text("{}")
    none = str(tmp_path / "none")
    common = ("models", "train", "--data", none, "--format", "sparkov")
    assert "holds a version" in said(*common, "--out", str(tmp_path / "1"))
    assert "preset" in said(*common, "--out", str(tmp_path / "2"), "--preset", "huge")
    assert "YYYY-MM-DD" in said("replay", "--data", none, "--format", "sparkov", "--model", "1", "--since", "monday")
    assert "got 7" in said("replay", "--data", none, "--format", "sparkov", "--model", "7")
