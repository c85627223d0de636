"""`panther replay --out` ends with a report; `panther report` and `panther explain` draw again and one user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from tests.offline.replay.test_replay_run import write_fdh


@pytest.fixture
def data(log: TransactionTable, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANTHER_MODELS_DIR", str(artifact_folder.parent))
    path = tmp_path / "transactions.parquet"
    write_fdh(log, path, log.label)
    return path


def panther(*words: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_replay_ends_with_its_report_which_can_be_drawn_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = panther("replay", "--data", data, "--format", "fdh", "--model", "1", "--out", out)
    assert done["report"] == str(out / "report.html")
    first = {name: (out / name).read_bytes() for name in ("report.json", "report.html")}
    drawn = panther("report", out, "--out", tmp_path / "again", "--title", "out")
    assert {name: (tmp_path / "again" / name).read_bytes() for name in first} == first
    expected = done["models"][0]
    assert drawn["variants"]["v1"]["average_precision"] == pytest.approx(expected["average_precision"])
    assert drawn["variants"]["v1"]["recall"] == pytest.approx(expected["recall"])
    compared = panther("report", out, "--threshold", "0.01", "--threshold", "0.9")
    assert list(compared["variants"]) == ["v1", "v1 at 0.01", "v1 at 0.9"]
    assert compared["variants"]["v1 at 0.01"]["recall"] > compared["variants"]["v1 at 0.9"]["recall"]
    page = (out / "report.html").read_bytes()
    assert panther("report", out) == compared
    assert (out / "report.html").read_bytes() == page, "drawing it again changes nothing"
    everything = panther("report", out, "--since", "2000-01-01")
    assert everything["transactions"] == done["transactions"] > compared["transactions"]
    assert "within a model's training" in (out / "report.html").read_text()
    assert panther("report", out) == everything


def test_a_wrong_first_day_is_refused_before_the_replay(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="YYYY-MM-DD"):
        panther(
            "replay", "--data", data, "--format", "fdh", "--model", "1", "--out", tmp_path / "out", "--since", "monday"
        )
    assert not (tmp_path / "out").exists()


def test_one_user_is_explained_and_drawn(data: Path, log: TransactionTable, tmp_path: Path) -> None:
    found = panther(
        "explain",
        "5",
        "--data",
        data,
        "--format",
        "fdh",
        "--at",
        str(log.time_ms[-1]),
        "--html",
        tmp_path / "user.html",
    )
    assert found["user_id"] == "5"
    assert 0 < len(found["events"]) <= 8
    assert (tmp_path / "user.html").exists()
    assert CliRunner().invoke(app, ["explain", "5"]).exit_code == 2
    shown = CliRunner().invoke(app, ["explain", "5", "--data", str(data), "--format", "fdh"], catch_exceptions=False)
    assert shown.exit_code == 0
