"""`panther data`: one JSON object on stdout, files where they were asked for."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.data import app
from panther_core.data.formats import FORMATS
from panther_core.data.token_report import REPORT, TOKENIZER
from tests import DATA


@pytest.mark.parametrize("format", FORMATS)
def test_tokens_of_every_format(format: str, tmp_path: Path) -> None:
    argv = ["tokens", "--data", str(DATA / format), "--format", format, "--coverage", "0.5", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*argv, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["fitted"]["covered"] >= 0.5
    assert found == json.loads((tmp_path / REPORT).read_text())
    assert len(json.loads((tmp_path / TOKENIZER).read_text())["tokens"]) == found["vocabulary"]


def test_tokens_for_people_go_to_stderr() -> None:
    done = CliRunner().invoke(app, ["tokens", "--data", str(DATA / "fdh"), "--format", "fdh", "--top", "2"])
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "2 tokens and [UNK]" in done.stderr


def test_convert_fdh(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["convert-fdh", str(DATA / "fdh_pickles"), str(tmp_path / "transactions.parquet"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "file": str(tmp_path / "transactions.parquet"), "days": 4, "transactions": 12, "frauds": 4,
    }  # fmt: skip
