"""From an own file to a mapping and a check of the log: `panther init`, `panther data check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import PantherError
from panther_core.base.times import DAY_MS
from panther_core.data.formats import read_table

GERMAN = """Buchungstag;Uhrzeit;Konto;Händler;Betrag;Währung;Betrug
31.12.2024;23:59;K1;Bäcker;1.234,56;EUR;nein
01.01.2025;08:15;K1;Laden 2;-12,50;EUR;ja
"""


class Done(NamedTuple):
    """What a command has printed; the text of the error that it ended with is on stderr, as people see it."""

    returncode: int
    stdout: str
    stderr: str


def run_cli(*argv: str) -> Done:
    done = CliRunner().invoke(app, argv)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, PantherError), done.exception
        return Done(1, done.stdout, str(done.exception))
    return Done(done.exit_code, done.stdout, done.stderr)


def init(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = run_cli("init", str(path), "--json", *options)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def test_a_bank_s_export_is_known_but_for_what_only_its_owner_knows(tmp_path: Path) -> None:
    file = tmp_path / "umsaetze.csv"
    file.write_bytes(GERMAN.encode("cp1252"))
    code, found = init(file, "--set", "zone=Europe/Berlin")
    assert (code, set(found["open"])) == (0, {"negative"})
    mapping = Path(found["mapping"])
    assert mapping == tmp_path / "mapping.toml"
    assert mapping.read_text().startswith("# are negative amounts like -12,50 refunds")
    mapping.write_text('negative = "absolute"\n' + mapping.read_text())
    table = read_table("csv", mapping)
    assert table.amount.tolist() == [1234.56, 12.5]
    assert table.label.tolist() == [0, 1]
    assert str(np.datetime64(int(table.time_ms[0]), "ms")) == "2024-12-31T22:59:00.000"
    again = run_cli("init", str(file))
    assert again.returncode == 1
    assert "expected no file at" in again.stderr


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("step,type,amount,nameOrig,nameDest,isFraud", "1,PAYMENT,9.5,C1,M1,0", {"time": "h"}),
        ("TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,addr1,P_emaildomain,R_emaildomain",
         "1,0,86400,68.5,W,10,315,a.com,", {"start": "2017-12-01"}),
        ("step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud",
         "0,'C1','4','M','28007','M1','28007','es_food',4.55,0", {"quote": "'"}),
        ("Timestamp,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,Amount Paid,Payment Currency,"
         "Payment Format,Is Laundering", "2022/09/01 00:20,10,8000,10,8001,3.5,US Dollar,3.5,US Dollar,Wire,0",
         {"time": "%Y/%m/%d %H:%M"}),
    ],
)  # fmt: skip
def test_public_sets_are_known_by_their_header(tmp_path: Path, header: str, row: str, expected: dict[str, str]) -> None:
    file = tmp_path / "x.csv"
    file.write_text(f"{header}\n{row}\n")
    code, found = init(file)
    assert (code, found["open"]) == (0, {})
    text = Path(found["mapping"]).read_text()
    for key, value in expected.items():
        assert f"{key} = {json.dumps(value)}" in text
    assert len(read_table("csv", found["mapping"])) == 1


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Time,V1,V28,Amount,Class", "Kaggle's credit cards (ULB), which lacks users and merchants"),
        ("userId,movieId,rating,timestamp", "for choices of users there is `panther bench seqrec`"),
        ("a,b,c", "expected columns for user_id, merchant_id, amount, event_time"),
    ],
)
def test_what_is_no_log_of_payments_says_so(tmp_path: Path, header: str, message: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(f"{header}\n{','.join(['1'] * len(header.split(',')))}\n")
    done = run_cli("init", str(file))
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "mapping.toml").exists()


def test_two_readings_of_a_day_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("user,shop,amount,date\nu,s,1.5,01/02/2024 10:00\nu,s,1.234,03/04/2024 11:00\n")
    _, found = init(file)
    assert found["open"]["time"][1] == ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]
    assert "zone" in found["open"]


def log(folder: Path, rows: list[str], mapping: str = "") -> Path:
    (folder / "x.csv").write_text("id,u,m,a,t,f\n" + "\n".join(rows) + "\n")
    (folder / "mapping.toml").write_text(
        f'data = "x.csv"\n{mapping}\n[columns]\ntransaction_id = "id"\nuser_id = "u"\nmerchant_id = "m"\n'
        'amount = "a"\nevent_time = "t"\nlabel = "f"\n'
    )
    return folder / "mapping.toml"


def check(mapping: Path, *options: str) -> dict[str, Any]:
    done = run_cli("data", "check", str(mapping), "--json", *options)
    out: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if out["ok"] else 1)
    return out


def test_a_check_tells_all_that_is_wrong_and_not_only_the_first(tmp_path: Path) -> None:
    rows = ["1,u1,m,1.5,2024-05-01T10:00:00,0", "2,,m,2,2024-05-01T11:00:00,0", "3,u1,m,-3,2024-05-01T12:00:00,maybe",
            "4,u1,m,x,soon,0"]  # fmt: skip
    found = check(log(tmp_path, rows))
    assert (found["format"], found["rows"], found["ok"]) == ("csv", 4, False)
    assert found["mapping"]["columns"]["user_id"] == "u"
    told = {problem["what"].split(":")[0]: problem for problem in found["problems"]}
    assert {name: told[name]["count"] for name in ("u", "a", "t", "f")} == {"u": 1, "a": 1, "t": 1, "f": 1}
    assert told["u"]["first"] == "x.csv, row 2: nothing"
    assert any("no offset" in problem["what"] and problem["count"] == 4 for problem in found["problems"])


def test_a_check_of_a_log_that_can_be_read(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), []
    for i in range(900):
        at = np.datetime64(1_714_550_400_000 + i * DAY_MS // 10, "ms")
        rows.append(f"{i},u{rng.integers(0, 30)},m{i % 7},{1 + i % 50},{at}Z,{int(i % 12 == 0)}")
    found = check(log(tmp_path, [*rows, rows[-1], rows[-2].replace(",m", ",n")]), "--label-delay-days", "2")
    assert found["ok"]
    counts = {problem["what"].split(":")[0]: problem["count"] for problem in found["problems"]}
    assert counts["payments come again with the same id and content"] == 1
    assert counts["payments have an id that their user has used before, for another payment"] == 1
    assert any("frauds are in the test slice" in what for what in counts)
    short = check(log(tmp_path, rows), "--label-delay-days", "80")
    assert not short["ok"]
    assert any("longer log or a shorter label delay" in problem["what"] for problem in short["problems"])
    only = check(log(tmp_path, [row[: row.rindex(",")] + ("," if row.endswith(",0") else ",1") for row in rows]))
    assert any("labels are all of frauds" in problem["what"] for problem in only["problems"])
    swapped = check(log(tmp_path, rows, 'fraud = ["0"]\nhonest = ["1"]'), "--label-delay-days", "2")
    assert any("the right way round" in problem["what"] for problem in swapped["problems"])


def test_a_log_of_objects_that_marks_frauds_alone(tmp_path: Path) -> None:
    """The id of a card is a card's; whether payments without a mark are honest only their owner knows."""
    file, paid = tmp_path / "x.jsonl", {"shop": {"id": "m"}, "amount": 5, "card": {"id": "c"}, "created": 1735689802048}
    file.write_text(
        "\n".join(json.dumps({"id": f"p{i}"} | paid | ({"fraud": True} if i % 5 == 0 else {})) for i in range(50))
    )
    code, found = init(file, "--set", "others=honest")
    assert (code, found["open"]) == (0, {})
    table = read_table("csv", found["mapping"])
    assert (table.user[0], table.merchant[0], int(table.label.sum()), int((table.label == 0).sum())) == (
        "c",
        "m",
        10,
        40,
    )
    (tmp_path / "mapping.toml").unlink()
    assert init(file)[1]["open"]["others"][1] == ["honest", "unknown"]


def test_a_folder_may_hold_its_own_mapping(tmp_path: Path) -> None:
    (tmp_path / "part-1.csv").write_text("user,shop,amount,time\nu,s,1.5,2024-05-01T10:00:00Z\n")
    (tmp_path / "part-2.csv").write_text("user,shop,amount,time\nu,s,2.5,2024-05-02T10:00:00Z\n")
    _, found = init(tmp_path)
    assert Path(found["mapping"]) == tmp_path / "mapping.toml"
    assert read_table("csv", tmp_path).amount.tolist() == [1.5, 2.5], "the mapping is no part"


def test_a_day_alone_has_no_offset(tmp_path: Path) -> None:
    """The sign and two digits at its end are no time zone."""
    found = check(log(tmp_path, ["1,u1,m,1.5,2024-05-01,0", "2,u1,m,1.5,2024-05-02T10:00:00+02,0"]))
    assert next(p for p in found["problems"] if "no offset" in p["what"])["count"] == 1
